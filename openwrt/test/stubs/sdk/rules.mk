# A stub for OpenWrt's SDK. A package Makefile that includes it prints the fields of each variant as
# lines `NAME|FIELD|VALUE`.
INCLUDE_DIR:=$(TOPDIR)/include
INSTALL_DIR:=folder
INSTALL_BIN:=755
INSTALL_CONF:=600
INSTALL_DATA:=644
PKG_INSTALL_DIR:=built
