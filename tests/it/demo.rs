//! `demo`: no argument, no network, nothing installed; it shows the hit rate rising and leaves a checkpoint.

use crate::support::{Place, negstream, run};

#[test]
fn demo_ends_above_popularity_with_the_checkpoint_of_a_replay() {
    const EVENTS: &str = "40000";
    let place = Place::new();
    // The usual address may be taken, by another demo for instance: any other shows the page as well.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("http.listen={}", taken.local_addr().unwrap());
    let mut command = negstream();
    command.current_dir(place.path("")).args(["demo", "--until-done", "--events", EVENTS, "--set", &listen]);
    let said = run(&mut command).ended(0);
    assert!(said.out.contains("Page: http://127.0.0.1:"), "{}", said.out);
    assert_eq!(said.out.matches("\nNearest to ").count(), 3, "{}", said.out);
    let hit_rate = |ranking: &str| -> f64 {
        let lines = said.out.lines().filter_map(|line| line.trim_start().strip_prefix(ranking)?.split_once("HR@20 "));
        let figure = lines.filter_map(|(_, rest)| rest.split(' ').next()?.parse().ok()).next();
        figure.unwrap_or_else(|| panic!("no hit rate of {ranking}: {}", said.out))
    };
    let (model, popularity) = (hit_rate("model "), hit_rate("popularity "));
    assert!(model > popularity, "{model}, popularity {popularity}: {}", said.out);

    let demo = "negstream-demo/checkpoints";
    run(&mut place.negstream(&["inspect", demo])).ended(0);
    // What went through the embedded broker is the synthetic log of the same seed, event by event.
    run(&mut place.negstream(&["synth", "--events", EVENTS, "-o", "log.parquet"])).ended(0);
    place.replay_in("replayed", &["log.parquet"], &[]);
    assert!(place.items(demo) == place.items("replayed"), "items.parquet differs");
}
