//! A look at the host, for as much as the brain needs to know.

use std::path::Path;
use std::time::Duration;

use super::fetch::limits;
use super::{RESERVE, connect, marker};
use crate::agent::Survey;
use crate::agent::effect::Purpose;
use crate::agent::event::Slot;
use crate::config;
use crate::host::bus::Bus;
use crate::host::download::acceptable;
use crate::host::mounts;
use crate::host::rauc::{self, Rauc, Slot as RaucSlot};
use crate::host::systemd::{Systemd, UnitInfo};

/// The whole of it.
const LIMIT: Duration = Duration::from_secs(30);

/// Takes at most half a minute. `uri`: where the described image is.
pub(super) async fn look(
    purpose: Purpose,
    folder: &Path,
    settings: Option<&config::Firmware>,
    uri: Option<&str>,
) -> Result<Survey, String> {
    let found = async {
        match purpose {
            Purpose::Download => Ok(download(folder, settings, uri)),
            Purpose::Install => install(settings).await,
            Purpose::Outcome => {
                let mut survey = slots(purpose).await?;
                survey.fallback = marker::note(folder);
                Ok(survey)
            }
        }
    };
    let late = |_| "RAUC or systemd did not answer in time".to_owned();
    tokio::time::timeout(LIMIT, found).await.map_err(late)?
}

/// Whether it may be fetched from there, and whether there is room for anything.
fn download(folder: &Path, settings: Option<&config::Firmware>, uri: Option<&str>) -> Survey {
    let address = settings
        .zip(uri)
        .and_then(|(settings, uri)| acceptable(uri, &limits(settings)).err());
    let room = match mounts::free_space(folder) {
        Ok(free) if free > RESERVE => None,
        Ok(free) => Some(format!(
            "only {} MiB are free for firmware below {}, and {} must stay free: make room",
            free >> 20,
            folder.display(),
            RESERVE >> 20
        )),
        Err(error) => Some(format!("the disk of {} cannot be looked at: {error}", folder.display())),
    };
    Survey {
        problems: address.into_iter().chain(room).collect(),
        ..Survey::default()
    }
}

async fn install(settings: Option<&config::Firmware>) -> Result<Survey, String> {
    let mut survey = slots(Purpose::Install).await?;
    let said = |error: crate::host::bus::BusError| error.to_string();
    let bus = Bus::system().await.map_err(said)?;
    let systemd = Systemd::new(&bus).await.map_err(said)?;
    survey.failed_units = systemd.failed_units().await.map_err(said)?;
    for name in settings
        .map(|settings| settings.trial.units.as_slice())
        .unwrap_or_default()
    {
        let unit = systemd.unit(name).await.map_err(said)?;
        survey.problems.extend(unfit(name, &unit));
    }
    Ok(survey)
}

/// A unit that can never show that a slot is good.
fn unfit(name: &str, unit: &UnitInfo) -> Option<String> {
    let never = unit.service.as_ref().is_some_and(|service| !service.can_stay_active());
    never.then(|| {
        format!(
            "[firmware.trial] units names {name}, a oneshot without RemainAfterExit: it is never active, and no slot could prove itself"
        )
    })
}

async fn slots(purpose: Purpose) -> Result<Survey, String> {
    let installer = connect().await?;
    let slots = match installer.slots().await {
        Ok(slots) => slots,
        // While it installs, RAUC answers nothing else.
        Err(error) if rauc::is_busy(&error) => {
            return Ok(Survey {
                installing: true,
                ..Survey::default()
            });
        }
        Err(error) => return Err(error.to_string()),
    };
    let next = match purpose {
        Purpose::Outcome => next(&installer).await,
        Purpose::Download | Purpose::Install => None,
    };
    // Last: what began in between is seen.
    let installing = installer.installs().await;
    Ok(Survey {
        booted: slots.iter().find(|slot| slot.booted).map(|slot| slot.name.clone()),
        slots: slots.iter().map(|told| slot(told, next.as_ref())).collect(),
        installing,
        ..Survey::default()
    })
}

/// The slot that the boot loader takes next; `Some(None)`: none that it calls good. `None`: it does not say.
async fn next(installer: &Rauc) -> Option<Option<String>> {
    match installer.primary().await {
        Ok(primary) => Some(primary),
        Err(error) => {
            tracing::info!("which slot boots next is not known: {error}");
            None
        }
    }
}

fn slot(slot: &RaucSlot, next: Option<&Option<String>>) -> Slot {
    let installed = (&slot.installed_count, &slot.installed_timestamp);
    Slot {
        name: slot.name.clone(),
        class: slot.class.clone(),
        complete: slot.status.as_deref().is_none_or(|status| status == "ok"),
        transaction: slot.installed_transaction.clone(),
        installed: (installed != (&None, &None)).then(|| {
            format!(
                "{} {}",
                slot.installed_count.unwrap_or_default(),
                slot.installed_timestamp.as_deref().unwrap_or_default()
            )
        }),
        boots_next: next.map(|next| next.as_ref() == Some(&slot.name)),
    }
}
