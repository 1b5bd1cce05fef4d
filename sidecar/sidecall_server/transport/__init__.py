"""The gRPC surface. Protobuf types stop here."""
