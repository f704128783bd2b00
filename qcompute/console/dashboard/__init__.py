"""The operator's dashboard: one web page app on the operator port (``docs/how-to/dashboard.md``)."""
