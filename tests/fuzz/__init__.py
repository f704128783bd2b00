"""Coverage-guided fuzzing of what reads strangers' bytes in the daemon itself; ``python -m tests.fuzz`` runs it."""
