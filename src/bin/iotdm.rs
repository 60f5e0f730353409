//! `iotdm`, the service and the operator's commands. Everything is in `iotdm::service::cli`.

fn main() -> std::process::ExitCode {
    iotdm::service::cli::main()
}
