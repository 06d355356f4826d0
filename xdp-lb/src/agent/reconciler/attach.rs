//! Which interfaces the program is on.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{error, info, warn};

use super::Reconciler;
use crate::agent::seams::{Links, PacketPath};
use crate::config::model::XdpMode;
use crate::dataplane::{AttachedMode, Error, Wish};
use crate::plan::interfaces::{Deaf, FarEnd, Sort, deaf, leads, refusal, remark};
use crate::plan::vlans::{carries, told};

impl<D: PacketPath, L: Links> Reconciler<D, L> {
    /// Puts the program on every interface it belongs on and that exists by now. Stops at the first
    /// that refuses it.
    pub async fn attach(&mut self) -> Result<(), Error> {
        for (name, ifindex) in self.unattached() {
            self.attach_to(&name, ifindex).await?;
        }
        Ok(())
    }

    /// Takes the program off interfaces that a predecessor has put it on and that nobody wants.
    pub fn detach_others(&mut self) {
        let wanted = self.indexes.values().copied().collect();
        if let Err(reason) = self.writer.dataplane().detach_others(&wanted) {
            error!("the program stays on interfaces that nobody asks for: {reason}");
        }
    }

    /// Interfaces that the program is on.
    pub fn attached(&self) -> &BTreeMap<String, AttachedMode> {
        &self.attached
    }

    /// As [`Reconciler::attach`], but one that refuses keeps nobody from anything.
    pub(super) async fn attach_what_came(&mut self) {
        let mut refused = BTreeMap::new();
        for (name, ifindex) in self.unattached() {
            if let Err(reason) = self.attach_to(&name, ifindex).await {
                let reason = reason.to_string();
                if self.refused.get(&name) != Some(&reason) {
                    error!(
                        "packets that come in by {name} are not balanced: {reason}; trying again"
                    );
                }
                refused.insert(name, reason);
            }
        }
        self.refused = refused;
    }

    /// Has the interfaces that carry VLANs leave the tags on frames, once each.
    pub(super) fn keep_tags(&mut self) {
        let tagged: BTreeMap<String, u32> = {
            let network = self.sources.network.borrow();
            let indexes = self.indexes.iter();
            indexes
                .filter(|(_, ifindex)| carries(&network, **ifindex))
                .map(|(name, ifindex)| (name.clone(), *ifindex))
                .collect()
        };
        let before = std::mem::replace(&mut self.tagged, tagged.values().copied().collect());
        for (name, ifindex) in tagged {
            if before.contains(&ifindex) {
                continue;
            }
            match self.writer.keep_tags(ifindex).map(|tags| told(&name, tags)) {
                Ok(Some((true, text))) => warn!("{text}"),
                Ok(Some((false, text))) => info!("{text}"),
                Ok(None) => {}
                Err(reason) => warn!(
                    "{name} carries VLANs, and it is not known whether it leaves their tags on frames: \
                     {reason}; packets in VLANs are balanced only if rx-vlan-offload is off \
                     ('ethtool -K {name} rxvlan off')"
                ),
            }
        }
    }

    /// Interfaces that the program belongs on and is not on.
    fn unattached(&mut self) -> Vec<(String, u32)> {
        let network = self.sources.network.borrow();
        let gone = |name: &str, ifindex: u32| {
            network
                .links
                .get(name)
                .is_none_or(|link| link.ifindex != ifindex)
        };
        for (name, _) in self
            .indexes
            .extract_if(.., |name, ifindex| gone(name, *ifindex))
        {
            self.attached.remove(&name);
            self.remarks.remove(&name);
            warn!("interface {name}, which the program was on, is gone");
        }
        let config = self.sources.config.borrow();
        let names = self.placement.interfaces(&config, &network);
        let waiting = names
            .into_iter()
            .filter(|name| !self.attached.contains_key(name));
        waiting
            .filter_map(|name| Some((name.clone(), network.links.get(&name)?.ifindex)))
            .collect()
    }

    async fn attach_to(&mut self, name: &str, ifindex: u32) -> Result<(), Error> {
        let sort = {
            let network = self.sources.network.borrow();
            network.links.get(name).map(|link| link.sort)
        };
        if let Some(reason) = sort.and_then(|sort| refusal(name, sort)) {
            return Err(Error::Attach(reason));
        }
        let deaf = self.deaf(name).await;
        let wish = match self.placement.mode {
            XdpMode::Auto if !deaf.is_empty() => Wish::First(AttachedMode::Generic),
            mode => mode.into(),
        };
        // The gates must not close meanwhile: a predecessor's program forwards.
        while self.writer.dataplane().prepare()? {
            self.writer.beat();
        }
        let mode = self.writer.dataplane().attach(name, ifindex, wish)?;
        self.writer.beat();
        self.attached.insert(name.to_owned(), mode);
        self.indexes.insert(name.to_owned(), ifindex);
        self.say_of(name, &deaf);
        if !self.remarks.contains_key(name) {
            info!("{name}: attached in {} mode", mode.name());
        }
        Ok(())
    }

    /// Looks again at where packets leave: real servers move, and so do programs at the other ends of
    /// veths.
    pub(super) async fn look_at_ways_out(&mut self) {
        let names: Vec<String> = self.attached.keys().cloned().collect();
        self.remarks.retain(|name, _| names.contains(name));
        for name in names {
            let deaf = self.deaf(&name).await;
            self.say_of(&name, &deaf);
        }
    }

    /// Says how the program is on an interface, if that is news and not as it should be.
    fn say_of(&mut self, name: &str, deaf: &[Deaf]) {
        let Some(mode) = self.attached.get(name) else {
            return;
        };
        let modes = (self.placement.mode, *mode == AttachedMode::Native);
        let remark = remark(name, modes, deaf, &self.sources.network.borrow());
        match remark {
            Some(remark) if self.remarks.get(name) != Some(&remark) => {
                warn!("{remark}");
                self.remarks.insert(name.to_owned(), remark);
            }
            Some(_) => {}
            None => {
                self.remarks.remove(name);
            }
        }
    }

    /// The interfaces by which packets may leave this one and that take none from native XDP.
    async fn deaf(&mut self, name: &str) -> Vec<Deaf> {
        let links: Vec<_> = {
            let network = self.sources.network.borrow();
            let config = self.sources.config.borrow();
            let on = self.placement.interfaces(&config, &network);
            let mut out: BTreeSet<String> = leads(&config, &network, &on);
            out.insert(name.to_owned());
            let links = out.into_iter();
            let links = links.filter_map(|name| {
                let link = network.links.get(&name)?;
                Some((name, link.ifindex, link.sort))
            });
            links.collect()
        };
        let mut all = Vec::new();
        for (name, ifindex, sort) in links {
            // One that is just being made or removed is looked at again.
            let far_end = match sort {
                Sort::Veth => self.writer.far_end(ifindex).await,
                _ => Ok(FarEnd::Unknown),
            };
            let far_end = far_end.unwrap_or(FarEnd::Unknown);
            all.extend(deaf(&name, sort, || far_end));
        }
        all
    }
}
