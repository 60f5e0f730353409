//! One try: ask, follow redirects, take what comes and have it written while more comes.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use tokio::time::{Instant, timeout};

use super::answer::{self, Answer, Asked, Head};
use super::client::client;
use super::desk::Desk;
use super::disk::bytes;
use super::meter::Meter;
use super::trouble::{Trouble, of_client};
use super::uri::Address;
use super::{Download, Progress};

/// As browsers and curl have it, or less.
const REDIRECTS: usize = 10;

/// So much is collected before it is written, or what has come in this time.
const BATCH: usize = 1024 * 1024;
const BATCH_TIME: Duration = Duration::from_secs(1);

/// All bytes are there.
#[derive(Debug)]
pub(super) struct Whole {
    /// They came in pieces, or nobody can tell whether the last one was: a digest that does not match may be due to
    /// that.
    pub(super) pieced: bool,
}

/// A try under way.
pub(super) struct Attempt<'a, F> {
    pub(super) download: &'a Download,
    pub(super) address: &'a Address,
    pub(super) desk: &'a mut Desk,
    pub(super) meter: &'a mut Meter<F>,
    /// How long it may wait for the server in all, beyond what its bytes make good for.
    pub(super) allowance: Duration,
    /// The time that it waited.
    pub(super) waited: Duration,
    /// The bytes that it brought.
    pub(super) brought: u64,
    /// It waited as long as it may in all, which says nothing about what the server would have done.
    pub(super) cut_short: bool,
}

impl<F: FnMut(Progress) + Send> Attempt<'_, F> {
    pub(super) async fn run(&mut self) -> Result<Whole, Trouble> {
        let part = self.desk.part().await?;
        if part.length() > 0 && part.note.total == Some(part.length()) {
            return Ok(Whole { pieced: true });
        }
        if part.length() > 0 && part.note.etag.is_none() {
            // Nobody could say whether the rest belongs to it.
            part.start_over()?;
        }
        let (from, etag, known) = (part.length(), part.note.etag.clone(), part.note.total);
        let (response, answered_by) = self.ask(from, etag.as_deref()).await?;
        let spent = &mut self.desk.part().await?.note.spent;
        spent.answered = true;
        self.allowance = self.download.patience.trouble_left(spent);

        let head = Head {
            status: response.status(),
            version: response.version(),
            headers: response.headers(),
            length: response.content_length(),
        };
        let asked = Asked {
            from,
            etag: etag.as_deref(),
            total: known,
        };
        let ends = match answer::read(&head, &asked) {
            Answer::Whole { total, etag, ends } => {
                if !ends && self.download.verifier.is_none() {
                    return Err(Trouble::lost(format!(
                        "{answered_by} does not tell how long the file is, so nobody could tell whether all of it has \
                         come; give a verifier, or let the server tell the length"
                    )));
                }
                let part = self.desk.part().await?;
                part.start_over()?;
                (part.note.etag, part.note.total) = (etag, total);
                ends
            }
            Answer::Rest { total } => {
                self.desk.part().await?.note.total = total;
                true
            }
            Answer::Complete => return Ok(Whole { pieced: true }),
            Answer::Anew(problem) => {
                self.desk.part().await?.start_over()?;
                return Err(Trouble::Server(format!("{answered_by}: {problem}")));
            }
            Answer::Later(problem) => return Err(Trouble::Server(format!("{answered_by}: {problem}"))),
            Answer::No(problem) => {
                return Err(Trouble::invalid(format!(
                    "{answered_by}: {problem}; check the address of the firmware"
                )));
            }
            Answer::Redirect(_) => return Err(Trouble::Server(format!("{answered_by}: too many redirects"))),
        };
        let part = self.desk.part().await?;
        let (from, total) = (part.length(), part.note.total);
        if let Some(total) = total {
            let missing = total.saturating_sub(from);
            part.make_room(missing)?;
            part.afford(missing, total).map_err(Trouble::lost)?;
        }
        self.take_body(response, &answered_by, from, total).await?;

        let part = self.desk.part().await?;
        match part.note.total {
            Some(total) if part.length() != total => Err(Trouble::Server(format!(
                "{answered_by} ended after {} of {}",
                bytes(part.length()),
                bytes(total)
            ))),
            _ => Ok(Whole {
                pieced: from > 0 || !ends,
            }),
        }
    }

    /// Asks for the bytes from `from` on, wherever redirects lead. Also says who answered, to be shown.
    async fn ask(&mut self, from: u64, etag: Option<&str>) -> Result<(Response, String), Trouble> {
        let begun = Instant::now();
        let client = client(self.download, self.address).await?;
        self.waited += begun.elapsed();
        let mut address = self.address.clone();
        for _ in 0..=REDIRECTS {
            let mut request = client.get(address.url()).header(ACCEPT_ENCODING, "identity");
            if let (1.., Some(etag)) = (from, etag) {
                request = request.header(RANGE, format!("bytes={from}-")).header(IF_RANGE, etag);
            }
            let patience = &self.download.patience;
            let limit = patience.connect + patience.silence;
            let response = match self.waiting(limit, request.send()).await {
                Some(Ok(response)) => response,
                Some(Err(error)) => return Err(of_client(&error, &address, self.download)),
                None => return Err(Trouble::Server(format!("{} does not answer", address.host()))),
            };
            let head = Head {
                status: response.status(),
                version: response.version(),
                headers: response.headers(),
                length: None,
            };
            match answer::read(&head, &Asked::default()) {
                Answer::Redirect(location) => {
                    address = address
                        .redirected(&location, &self.download.limits)
                        .map_err(Trouble::invalid)?;
                }
                _ => return Ok((response, address.to_string())),
            }
        }
        Err(Trouble::invalid(format!(
            "{} redirects more than {REDIRECTS} times; check the address of the firmware",
            self.address
        )))
    }

    async fn take_body(
        &mut self,
        mut response: Response,
        answered_by: &str,
        from: u64,
        total: Option<u64>,
    ) -> Result<(), Trouble> {
        let (mut pieces, mut collected, mut begun) = (Vec::new(), 0, Instant::now());
        self.meter.tell(from, total);
        let ended = loop {
            match self.waiting(self.download.patience.silence, response.chunk()).await {
                Some(Ok(Some(piece))) => {
                    collected += piece.len();
                    self.brought += piece.len() as u64;
                    self.meter.passed(piece.len(), from + self.brought, total).await;
                    pieces.push(piece);
                }
                Some(Ok(None)) => break Ok(()),
                Some(Err(error)) => break Err(of_client(&error, self.address, self.download)),
                None => break Err(Trouble::Server(format!("{answered_by} stopped sending"))),
            }
            if collected >= BATCH || begun.elapsed() >= BATCH_TIME {
                let batch = std::mem::take(&mut pieces);
                self.desk.begin(move |part| part.append(&batch)).await?;
                (collected, begun) = (0, Instant::now());
            }
        };
        self.desk.run(move |part| part.append(&pieces)).await?;
        self.meter.tell(from + self.brought, total);
        ended
    }

    /// How long it may still wait.
    fn left(&self) -> Duration {
        let pace = self.download.patience.pace.max(1);
        let made_good = Duration::from_millis(self.brought.saturating_mul(1000) / pace);
        (self.allowance + made_good).saturating_sub(self.waited)
    }

    /// Waits for the server; `None` when it took too long.
    async fn waiting<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (begun, left) = (Instant::now(), self.left());
        let done = timeout(limit.min(left), work).await.ok();
        self.waited += begun.elapsed();
        self.cut_short = done.is_none() && left < limit;
        done
    }
}
