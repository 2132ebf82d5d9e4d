# A stub for rust-package.mk of the packages feed.
RUST_ARCH_DEPENDS:=@somewhere
CARGO_PKG_PROFILE:=release
CARGO_PKG_ARGS=--locked

define RustBinPackage
endef
