"""Benchmarks: ``make bench`` runs all, ``make bench NAME=collect`` one. They print ratios and assert nothing about time."""
