"""Jobs, models and endpoints of Vertex AI."""
