//! Which kernel CubeCL compiles, told on stdout by a process whose parent wants to know where it stands.

/// Whose presence has it told.
pub(crate) const NAMES_KERNELS: &str = "RESNET_VAE_NAMES_KERNELS";

/// How CubeCL begins the line, before the kernel's name.
const COMPILING: &str = "[Compiling kernel] ";

/// Has CubeCL tell it where the environment says so; whatever a `cubecl.toml` says otherwise.
#[cfg(feature = "cuda")]
pub(crate) fn name_kernels(config: &mut cubecl::config::CubeClRuntimeConfig) {
    use cubecl::config::compilation::CompilationLogLevel;

    if std::env::var_os(NAMES_KERNELS).is_some() {
        let logger = &mut config.compilation.logger;
        logger.level = CompilationLogLevel::Basic;
        logger.stdout = true;
    }
}

/// The kernel that such a line says is compiled; none of other lines.
pub(crate) fn compiled_kernel(line: &str) -> Option<&str> {
    let name = line.strip_prefix(COMPILING)?;
    // Without its types and the path of its module.
    let name = name.split('<').next()?.rsplit("::").next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_named_without_its_module() {
        let line = "[Compiling kernel] resnet_blocks::cube::kernels::product::product::Product";
        assert_eq!(compiled_kernel(line), Some("Product"));
        let line = "[Compiling kernel] copy::Copy<a::Float>";
        assert_eq!(compiled_kernel(line), Some("Copy"));
        assert_eq!(compiled_kernel("[Compiling kernel]"), None);
        assert_eq!(compiled_kernel("a step 0.1 s"), None);
    }
}
