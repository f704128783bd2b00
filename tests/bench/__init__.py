"""Benchmarks: ``make bench`` runs all, ``make bench NAME=collect`` one. They print ratios and judge nothing."""
