"""Tests of what a configuration is assembled to."""
