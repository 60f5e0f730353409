//! What the local commands ask, and what they are told.

use tokio::sync::oneshot;

use super::run::Daemon;
use super::{Happening, check, diagnostics};
use crate::agent::effect::Reply as CommandReply;
use crate::agent::{CommandId, Event};
use crate::host::clock;
use crate::local::{Call, Reply, Request};

impl Daemon {
    pub(super) fn called(&mut self, call: Call) {
        match call.request {
            Request::Status => {
                // The command may have been interrupted.
                let _ = call.reply.send(Reply::Done(serde_json::json!(self.report())));
            }
            Request::Check => {
                let (path, environment) = (self.config_path.clone(), self.environment.clone());
                let happenings = self.happenings.clone();
                tokio::spawn(async move {
                    let looked = check::host(&path, &environment, true).await;
                    let _ = happenings.send(Happening::Checked(looked, call.reply)).await;
                });
            }
            _ if self.agent.is_none() => {
                let _ = call.reply.send(Reply::Failed(self.summary()));
            }
            Request::Location => {
                let whereabouts = self.agent.as_ref().map(|agent| agent.whereabouts(clock::boottime()));
                let _ = call.reply.send(Reply::Done(serde_json::json!(whereabouts)));
            }
            Request::DiagStatus => {
                let _ = call.reply.send(Reply::Done(self.diag_report()));
            }
            Request::Manage => {
                let command = self.keep(call.reply);
                self.events.push_back(Event::Manage(command));
            }
            Request::Unmanage => {
                let command = self.keep(call.reply);
                self.events.push_back(Event::Unmanage(command));
            }
            Request::FirmwareInstall { name, size } => match self.takes_image(size) {
                Ok(()) => {
                    let command = self.keep(call.reply);
                    self.events.push_back(Event::InstallFile(command, name));
                }
                Err(reason) => {
                    let _ = call.reply.send(Reply::Failed(reason));
                }
            },
            Request::FirmwareConfirm => {
                let command = self.keep(call.reply);
                self.events.push_back(Event::ConfirmTrial(command));
            }
            Request::FirmwareRollback => {
                let command = self.keep(call.reply);
                self.events.push_back(Event::RollBack(command));
            }
            request @ (Request::DiagAddLog { .. }
            | Request::DiagClearLogs
            | Request::DiagAddError { .. }
            | Request::DiagClearErrors) => match diagnostics::command(request) {
                Ok(what) => {
                    let command = self.keep(call.reply);
                    self.events.push_back(Event::Diag(command, what));
                }
                Err(reason) => {
                    let _ = call.reply.send(Reply::Failed(reason));
                }
            },
        }
    }

    fn keep(&mut self, reply: oneshot::Sender<Reply>) -> CommandId {
        self.calls.retain(|_, reply| !reply.is_closed());
        self.next_command += 1;
        let command = CommandId(self.next_command);
        self.calls.insert(command, reply);
        command
    }
}

/// The brain's reply as the socket carries it.
pub(super) fn command_reply(reply: CommandReply) -> Reply {
    match reply {
        CommandReply::Answered(rc, message) if rc.is_success() => {
            Reply::Done(serde_json::json!({"rc": rc.0, "message": message}))
        }
        CommandReply::Answered(rc, message) => {
            let reason = message.map(|message| format!(": {message}")).unwrap_or_default();
            Reply::Failed(format!("the service answered rc {rc}{reason}"))
        }
        CommandReply::Later => Reply::Done(serde_json::json!({
            "message": "written down; the service will be told as soon as it is reached",
        })),
        CommandReply::Begun(what) => Reply::Done(serde_json::json!({"message": what})),
        CommandReply::Failed(reason) => Reply::Failed(reason),
    }
}
