"""Flower as a transport of federations: messages are handed on unread."""

RECORD, FIELD = "relay", "exchange"
