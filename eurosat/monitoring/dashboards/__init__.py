"""The dashboards, one list of panels for Grafana and for Cloud Monitoring."""
