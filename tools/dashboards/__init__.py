"""Grafana's dashboards, made of tables: which panel shows which expression in which unit."""
