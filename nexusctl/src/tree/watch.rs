//! `nexusctl tree --watch`.

use std::{io, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    draw::{Times, as_json, draw},
    roots,
};
use crate::{
    bus::{Bus, Objects},
    failure::{Exit, Failure},
    interrupt::Interrupts,
    news::News,
    output::{self, Format, amount},
    screen::Screen,
};

/// Between two looks at the daemon. However much happens, it is asked no oftener.
const GAP: Duration = Duration::from_millis(100);

/// What is there to be shown.
enum Sight {
    Tree(Objects),
    /// There is no daemon; what to say of that.
    Away(String),
}

pub(super) async fn run(bus: &Bus, format: Format) -> Result<Exit, Failure> {
    let news = News::listen(bus).await?;
    // That there never was a daemon is a failure as with every other command.
    let mut sight = Sight::Tree(bus.objects("draw the tree").await?);
    let mut sights = follow(bus.clone(), news);
    if format == Format::Table && Screen::is_there() {
        // Before the terminal is taken, or a signal could end this with the terminal not given back.
        let mut interrupts = Interrupts::listen()?;
        let mut screen = Screen::open()?;
        loop {
            screen.draw(&text(&mut sight))?;
            tokio::select! {
                biased;
                number = interrupts.next() => return Ok(Exit::signal(number)),
                next = next(&mut sights) => sight = next?,
                stale = screen.is_stale() => stale?,
            }
        }
    }
    // A signal ends it by itself, also where nobody reads what it writes.
    let mut last = String::new();
    loop {
        write(&mut sight, format, &mut last)?;
        sight = next(&mut sights).await?;
    }
}

/// What is there after each change.
fn follow(bus: Bus, mut news: News) -> mpsc::Receiver<Result<Sight, Failure>> {
    let (show, shown) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut next = Instant::now();
        while news.next().await {
            sleep_until(next).await;
            // What happens from here on may be missing in what is read.
            news.forget();
            let sight = look(&bus).await;
            next = Instant::now() + GAP;
            if show.send(sight).await.is_err() {
                return;
            }
        }
    });
    shown
}

async fn next(sights: &mut mpsc::Receiver<Result<Sight, Failure>>) -> Result<Sight, Failure> {
    sights.recv().await.unwrap_or_else(|| {
        Err(Failure::new("cannot follow the tree any longer").because("The connection to the session bus is gone."))
    })
}

/// How it is now. Starts no daemon.
async fn look(bus: &Bus) -> Result<Sight, Failure> {
    let away = async || Sight::Away(bus.not_running().await.in_one_line());
    let Some(daemon) = bus.daemon().await else { return Ok(away().await) };
    match bus.objects_of(&daemon, "draw the tree").await {
        Ok(objects) => Ok(Sight::Tree(objects)),
        Err(failure) if bus.daemon().await.as_ref() == Some(&daemon) => Err(failure),
        // It went meanwhile. Should there be another one, there is news of it.
        Err(_) => Ok(away().await),
    }
}

/// As it is seen now.
fn text(sight: &mut Sight) -> String {
    match sight {
        Sight::Tree(objects) => {
            objects.now = amount::now();
            draw(&roots(objects), Times::FromNow)
        }
        Sight::Away(why) => format!("{why}\nVMs run on without it. Waiting for it."),
    }
}

/// Writes it unless it was what was written last.
fn write(sight: &mut Sight, format: Format, last: &mut String) -> io::Result<()> {
    let text = match (&*sight, format) {
        (Sight::Tree(objects), Format::Table) => draw(&roots(objects), Times::Clock),
        (Sight::Tree(objects), Format::Json) => as_json(&roots(objects)).to_string(),
        (Sight::Away(_), Format::Table) => text(sight),
        (Sight::Away(_), Format::Json) => "[]".to_owned(),
    };
    if *last == text {
        return Ok(());
    }
    match (&*sight, format) {
        (Sight::Away(_), Format::Table) => output::note(&text),
        (Sight::Tree(_), Format::Table) => output::line(format!("{}\n{text}\n", amount::instant(amount::now())))?,
        (_, Format::Json) => output::line(&text)?,
    }
    *last = text;
    Ok(())
}
