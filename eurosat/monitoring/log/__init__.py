"""The prediction log: what the service predicted, request by request, in a folder or a bucket."""
