"""Generated from the .proto files beside it (python -m grpc_tools.protoc -I. --python_out=. *.proto); no stubs."""
