"""Tests of ``qcompute doctor``."""
