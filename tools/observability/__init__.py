"""The proof that dashboards and alerts are alive, and pictures of the dashboards."""
