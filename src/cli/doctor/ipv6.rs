//! Does the machine have a route for the address family that `prefer-ip` prefers?

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::cli::doctor::telegram;
use crate::config::settings::PreferIp;
use crate::proto::dc;

/// Looks up the route to an address of Telegram. Sends no packets.
pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("ipv6", "Validate address family");
    let prefer = context.settings.prefer_ip;
    let wants_v6 = matches!(prefer, PreferIp::PreferIpv6 | PreferIp::OnlyIpv6);
    let family = if wants_v6 { "IPv6" } else { "IPv4" };
    let addrs = telegram::addresses(&context.settings, dc::DEFAULT_DC);
    let Some(addr) = addrs.into_iter().find(|addr| addr.is_ipv6() == wants_v6) else {
        section.skip(format!("the config allows no {family} address of Telegram"));
        return vec![section];
    };
    let Err(e) = context.standalone.check_route(addr) else {
        section.ok(format!("there is a route to Telegram over {family}"));
        return vec![section];
    };
    let text = format!("no route to Telegram over {family}: {e}");
    match prefer {
        PreferIp::PreferIpv6 => section
            .warn(text)
            .remedy("set prefer-ip = \"prefer-ipv4\", or add an IPv6 default route"),
        PreferIp::PreferIpv4 => section
            .warn(text)
            .remedy("set prefer-ip = \"prefer-ipv6\", or add an IPv4 default route"),
        PreferIp::OnlyIpv4 | PreferIp::OnlyIpv6 => {
            section.fail(text).remedy(format!("add an {family} default route, or change prefer-ip"))
        }
    };
    vec![section]
}
