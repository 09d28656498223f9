"""Representations: what clients, events and results show of what is stored; pure."""
