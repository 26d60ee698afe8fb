//! Lets the module be linked by a plain `cargo build` too, without Python's library.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
