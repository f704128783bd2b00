"""What strangers send: circuits, addresses, requests. The cases are data; ``python -m tests.hostile`` runs them all."""
