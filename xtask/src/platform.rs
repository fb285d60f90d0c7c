//! Which files make up libtorch, by platform.

use crate::{Error, Result};

/// The version that tch needs.
pub(crate) const VERSION: &str = "2.11.0";

/// One Python package file that holds a part of libtorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wheel {
    pub(crate) project: &'static str,
    pub(crate) version: &'static str,
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) bytes: u64,
}

/// What set-up downloads for one platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Platform {
    /// Part of the name of the cache folder.
    pub(crate) name: &'static str,
    /// The first wheel holds torch.
    pub(crate) wheels: &'static [Wheel],
    /// pip's names of the platforms that the wheels were built for.
    pub(crate) tags: &'static [&'static str],
}

impl Platform {
    /// The size of the download.
    pub(crate) fn bytes(&self) -> u64 {
        self.wheels.iter().map(|wheel| wheel.bytes).sum()
    }
}

// On Linux the CPU libraries name two small CUDA libraries that the loader must find; nothing else of CUDA is
// needed. The Python version in a name is of no account: the C++ libraries of all of them are the same.
const LINUX_X86_64: Platform = Platform {
    name: "linux-x86_64",
    wheels: &[
        Wheel {
            project: "torch",
            version: VERSION,
            file: "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
            sha256: "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
            bytes: 530_712_279,
        },
        Wheel {
            project: "nvidia-cuda-runtime",
            version: "13.0.96",
            file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
            bytes: 2_243_632,
        },
        Wheel {
            project: "nvidia-cuda-cupti",
            version: "13.0.85",
            file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
            sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
            bytes: 10_715_597,
        },
    ],
    tags: &["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"],
};

const LINUX_AARCH64: Platform = Platform {
    name: "linux-aarch64",
    wheels: &[
        Wheel {
            project: "torch",
            version: VERSION,
            file: "torch-2.11.0-cp312-cp312-manylinux_2_28_aarch64.whl",
            sha256: "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f",
            bytes: 419_731_115,
        },
        Wheel {
            project: "nvidia-cuda-runtime",
            version: "13.0.96",
            file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
            sha256: "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
            bytes: 2_261_060,
        },
        Wheel {
            project: "nvidia-cuda-cupti",
            version: "13.0.85",
            file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl",
            sha256: "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
            bytes: 10_310_827,
        },
    ],
    tags: &["manylinux_2_28_aarch64", "manylinux_2_25_aarch64", "manylinux2014_aarch64"],
};

const MACOS_AARCH64: Platform = Platform {
    name: "macos-aarch64",
    wheels: &[Wheel {
        project: "torch",
        version: VERSION,
        file: "torch-2.11.0-cp312-cp312-macosx_11_0_arm64.whl",
        sha256: "4b5866312ee6e52ea625cd211dcb97d6a2cdc1131a5f15cc0d87eec948f6dd34",
        bytes: 80_606_338,
    }],
    tags: &["macosx_11_0_arm64"],
};

/// The files for this machine.
pub(crate) fn current() -> Result<Platform> {
    let musl = if cfg!(target_env = "musl") { "-musl" } else { "" };
    find(&format!("{}-{}{musl}", std::env::consts::OS, std::env::consts::ARCH))
}

fn find(name: &str) -> Result<Platform> {
    let all = [LINUX_X86_64, LINUX_AARCH64, MACOS_AARCH64];
    all.into_iter().find(|platform| platform.name == name).ok_or_else(|| {
        Error::new(
            format!(
                "no ready-made libtorch for `{name}`, only for {}",
                all.map(|platform| platform.name).join(", ")
            ),
            format!(
                "install libtorch {VERSION} yourself and set LIBTORCH to its folder (the one with lib/ and include/)"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_platform_is_told_what_to_do() {
        let error = find("freebsd-x86_64").unwrap_err().to_string();
        assert!(error.contains("no ready-made libtorch for `freebsd-x86_64`"), "{error}");
        assert!(error.contains("set LIBTORCH to its folder"), "{error}");
        assert!(find("linux-x86_64-musl").is_err());
    }

    #[test]
    fn every_wheel_is_named_after_its_project_and_version() {
        for platform in [LINUX_X86_64, LINUX_AARCH64, MACOS_AARCH64] {
            assert_eq!(find(platform.name), Ok(platform));
            for wheel in platform.wheels {
                let start = format!("{}-{}-", wheel.project.replace('-', "_"), wheel.version);
                assert!(wheel.file.starts_with(&start), "{}", wheel.file);
                assert!(platform.tags.iter().any(|tag| wheel.file.contains(tag)), "{}", wheel.file);
                assert!(wheel.sha256.len() == 64 && wheel.bytes > 1_000_000);
            }
        }
    }
}
