"""The HTTP service: LitServe with the routes, guards and recovery that production asks for."""
