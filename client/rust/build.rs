//! Makes the stubs of the contract from its protos, without protoc.

use std::path::Path;

const PROTOS: [&str; 4] = [
    "sidecall/v1/execution.proto",
    "sidecall/v1/tool.proto",
    "sidecall/v1/tool_host.proto",
    "sidecall/v1/tool_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new("protos");
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={}", folder.join(proto).display());
    }
    let descriptors = protox::compile(PROTOS, [folder])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(descriptors)?;
    Ok(())
}
