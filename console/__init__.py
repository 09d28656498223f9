"""The console: web pages for customers and operators, over the ingress's HTTP API alone."""
