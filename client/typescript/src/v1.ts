/** The contract's messages and services, for @bufbuild/protobuf. */
export * from "./gen/google/rpc/error_details_pb.js";
export * from "./gen/google/rpc/status_pb.js";
export * from "./gen/sidecall/v1/execution_pb.js";
export * from "./gen/sidecall/v1/tool_host_pb.js";
export * from "./gen/sidecall/v1/tool_pb.js";
export * from "./gen/sidecall/v1/tool_service_pb.js";
