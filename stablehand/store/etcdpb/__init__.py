"""Generated from the .proto file beside it (python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. *.proto)."""
