//! Is there a way out over the family of addresses that `prefer-ip` prefers?

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::cli::doctor::telegram;
use crate::config::settings::PreferIp;
use crate::proto::dc;

/// Asks the system for a way to an address of Telegram. Sends nothing.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("ipv6", "Validate address family");
    let prefer = patient.settings.prefer_ip;
    let wants_v6 = matches!(prefer, PreferIp::PreferIpv6 | PreferIp::OnlyIpv6);
    let family = if wants_v6 { "IPv6" } else { "IPv4" };
    let goals = telegram::addresses(&patient.settings, dc::DEFAULT_DC);
    let Some(goal) = goals.into_iter().find(|goal| goal.is_ipv6() == wants_v6) else {
        section.skip(format!("no address of Telegram is an {family} address in this file"));
        return vec![section];
    };
    let Err(why) = patient.alone.check_route(goal) else {
        section.ok(format!("there is a way out over {family}"));
        return vec![section];
    };
    let text = format!("no way out over {family}: {why}");
    match prefer {
        PreferIp::PreferIpv6 => section
            .warn(text)
            .remedy("set prefer-ip = \"prefer-ipv4\", or get an IPv6 default route"),
        PreferIp::PreferIpv4 => section
            .warn(text)
            .remedy("set prefer-ip = \"prefer-ipv6\", or get an IPv4 default route"),
        PreferIp::OnlyIpv4 | PreferIp::OnlyIpv6 => section
            .fail(text)
            .remedy(format!("get an {family} default route, or choose another prefer-ip")),
    };
    vec![section]
}
