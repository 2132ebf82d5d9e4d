# A stand-in for OpenWrt's SDK: a package's Makefile includes it, and each variant's description
# comes out as lines `NAME|FIELD|VALUE`.
INCLUDE_DIR:=$(TOPDIR)/include
INSTALL_DIR:=folder
INSTALL_BIN:=755
INSTALL_CONF:=600
INSTALL_DATA:=644
PKG_INSTALL_DIR:=built
