//! States, reasons and events as people read them.

use std::fmt;
use std::net::IpAddr;

use super::super::packet::Refused;
use super::super::packet::refusal::Seconds;
use super::event::{Event, Fault, State, Why};

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Owner => f.write_str("priority 255 owns the addresses"),
            Self::Resumed { silent_for } => {
                let silent = Seconds(*silent_for);
                write!(f, "goes on for the agent that ran until {silent} ago")
            }
            Self::NoAdvert { from, silent_for } => {
                let silent = Seconds(*silent_for);
                match from {
                    Some(from) => write!(f, "no advert from {from} for {silent}"),
                    None => write!(f, "no advert for {silent}"),
                }
            }
            Self::GaveUp { from } => write!(f, "{from} gave up (priority 0)"),
            Self::Preempts { own, theirs, from } => {
                write!(f, "priority {own} > {theirs} from {from}")
            }
            Self::Outranked { own, theirs, from } => {
                write!(f, "priority {own} < {theirs} from {from}")
            }
            Self::TieLost {
                priority,
                own,
                from,
            } => {
                write!(
                    f,
                    "priority {priority} as {from}, whose address is higher than {own}"
                )
            }
            Self::Late { silent_for } => {
                let silent = Seconds(*silent_for);
                write!(
                    f,
                    "this host was busy or halted: no advert sent for {silent}"
                )
            }
            Self::Fault(fault) => fault.fmt(f),
            Self::FaultCleared => f.write_str("no fault is left"),
            Self::GroupReady { group } => write!(f, "all of sync group {group} are ready"),
            Self::GroupBackup { group, member } => {
                write!(f, "{member} of sync group {group} stepped down")
            }
            Self::Stopped { successor } => match successor {
                Some(successor) => write!(f, "stopped, {successor} took over"),
                None => f.write_str("stopped"),
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name} is down"),
            Self::Source(address) if address.is_unspecified() => {
                f.write_str("there is no source address for its adverts on this host")
            }
            Self::Source(address) => write!(f, "source address {address} is not on this host"),
            Self::NoPeer => f.write_str("it has no unicast_peer (unicast_fault_no_peer)"),
            Self::Tracker(cause) => cause.fmt(f),
            Self::Group { group, member } => {
                write!(f, "{member} of sync group {group} has a fault")
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transition { from, to, why } => write!(f, "{from} → {to}: {why}"),
            Self::Priority { from, to, cause } => match cause {
                Some(cause) => write!(f, "{cause}: priority {from} → {to}"),
                None => write!(f, "new configuration: priority {from} → {to}"),
            },
            Self::Refused { refused, more } => refusal(f, refused, *more),
            Self::AddressesDiffer {
                from,
                unknown,
                missing,
            } => difference(f, *from, unknown, missing),
            Self::IntervalDiffers { from, theirs, own } => write!(
                f,
                "{from} advertises every {theirs}, this router every {own}; accepted, make advert_int equal"
            ),
            Self::OtherMaster {
                from,
                theirs,
                own,
                more,
            } => write!(
                f,
                "{from} is master, too, with priority {theirs} against {own}: announcing again{}",
                More(*more)
            ),
            Self::Late { silent_for, yields } => {
                let silent = Seconds(*silent_for);
                write!(
                    f,
                    "this host was busy or halted: no advert sent for {silent}, "
                )?;
                f.write_str(if *yields {
                    "yielding"
                } else {
                    "announcing again"
                })
            }
            Self::ListensAgain { late } => write!(
                f,
                "this host was busy or halted for {}: listening once more before taking over",
                Seconds(*late)
            ),
            Self::StalePredecessor { silent_for, limit } => write!(
                f,
                "the agent before was last alive {} ago, more than {}: its addresses are dropped",
                Seconds(*silent_for),
                Seconds(*limit)
            ),
            Self::HandingOver { wait } => write!(
                f,
                "giving up, forwarding until somebody takes over, at most {}",
                Seconds(*wait)
            ),
        }
    }
}

fn refusal(f: &mut fmt::Formatter<'_>, refused: &Refused, more: u64) -> fmt::Result {
    f.write_str("refused an advert")?;
    if let Some(sender) = refused.sender {
        write!(f, " from {sender}")?;
    }
    write!(f, ": {}{}", refused.reason, More(more))
}

fn difference(
    f: &mut fmt::Formatter<'_>,
    from: IpAddr,
    unknown: &[IpAddr],
    missing: &[IpAddr],
) -> fmt::Result {
    write!(f, "{from} advertises other addresses:")?;
    listed(f, " not here", unknown)?;
    if !unknown.is_empty() && !missing.is_empty() {
        f.write_str(";")?;
    }
    listed(f, " not there", missing)?;
    f.write_str("; accepted, make virtual_ipaddress equal")
}

fn listed(f: &mut fmt::Formatter<'_>, what: &str, addresses: &[IpAddr]) -> fmt::Result {
    for (nth, address) in addresses.iter().enumerate() {
        match nth {
            0 => write!(f, "{what} {address}")?,
            _ => write!(f, ", {address}")?,
        }
    }
    Ok(())
}

struct More(u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " (and {more} more before)"),
        }
    }
}
