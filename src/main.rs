//! The `onionbus` program: arguments to a command.
#![forbid(unsafe_code)]

mod cli;

/// The allocator, as `.cargo/config.toml` sets it up. What is freed goes back to the kernel, or the
/// bounds of memory would hold for what is in use and not for what the daemon takes: with the
/// allocator of glibc, a daemon within 256 MB has taken 372.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
