# A stub for include/package.mk.
define Field
$(info $(1)|$(2)|$(3))
endef

FIELDS:=TITLE VARIANT DEFAULT_VARIANT PROVIDES CONFLICTS USERID DEPENDS

define Unset
$(foreach name,$(FIELDS),$(eval $(name):=))
endef

define BuildPackage
$(call Unset)$(eval $(Package/$(1)))
$(foreach name,$(FIELDS),$(call Field,$(1),$(name),$($(name))))
$(call Field,$(1),conffiles,$(strip $(Package/$(1)/conffiles)))
$(call Field,$(1),version,$(PKG_VERSION)-r$(PKG_RELEASE))
$(call Field,$(1),profile,$(CARGO_PKG_PROFILE))
$(call Field,$(1),arguments,$(strip $(CARGO_PKG_ARGS)))
$(call Field,$(1),install,$(subst $(newline), ; ,$(call Package/$(1)/install,ROOT)))
$(call Field,$(1),postinst,$(subst $(newline), ; ,$(Package/$(1)/postinst)))
endef

define newline


endef

all:
