//! What has been read of a listener, and the adapters that come while it is.

use segue_flow::Epoch;

use super::online::examples;
use super::*;

/// How far the newest answer's hidden state is from that of a model that reads the whole window with the
/// newest adapter.
fn from_read_anew(model: &mut E4SRec, plays: &[ContextPlay], read: usize) -> f64 {
    let asks = [ask(0, plays, read)];
    let found = model.hidden(&asks, Freshness::Now).unwrap();
    let mut fresh = model.frozen().unwrap();
    furthest(&found, &fresh.hidden(&asks, Freshness::Now).unwrap())
}

#[test]
fn a_window_is_gone_on_from_until_it_ends_or_is_too_far_behind() {
    let plays = walk(0, 20, 140);
    let others = walk(1, 20, 140);
    let mut settings = settings();
    settings.online.lora_every = 1;
    settings.online.lora_rate = 0.02;
    let fitted = fit(&[], &settings, 20);
    let content = contents(20);
    // How far off after each adapter, and at the first play of the next window.
    let run = |behind: u64| {
        let mut model = fitted.online().unwrap();
        let mut online = settings.online.clone();
        online.adapters_behind = behind;
        model.set_online(online);
        model.admit(&admitted(&keys(20), &content)).unwrap();
        assert!(from_read_anew(&mut model, &plays, 59) < 1e-4);
        let mut off = Vec::new();
        for epoch in 0..4u64 {
            let at = 10 + 20 * epoch as usize;
            model
                .learn(Epoch(epoch), &examples(1, &others, at..at + 20))
                .unwrap();
            assert_eq!(model.adapter_version(), epoch + 1);
            off.push(from_read_anew(&mut model, &plays, 60 + epoch as usize));
        }
        off.push(from_read_anew(&mut model, &plays, 100));
        off
    };
    let at_once = run(0);
    assert!(at_once.iter().all(|off| *off < 1e-4), "{at_once:?}");
    let two = run(2);
    let kept = two.iter().map(|off| *off > 1e-3).collect::<Vec<bool>>();
    assert_eq!(kept, [true, true, false, true, false], "{two:?}");
}
