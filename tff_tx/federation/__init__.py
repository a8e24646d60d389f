"""Federations of real participants."""
