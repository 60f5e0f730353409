//! Where a device is: which of several locations counts.

use serde_json::json;

use super::{locate, location, req_id, row, scene, written};
use crate::scene::gw;

#[test]
fn loc_04_the_location_that_was_measured_last_counts_in_whatever_order_they_come() {
    let mut scene = scene();
    let at = |latitude: i64, time: &str| json!({"latitude": latitude, "longitude": 0, "measuredDateTime": time});
    locate(&mut scene, at(1, "2024-05-01T09:00:00Z"), "l1");
    assert_eq!(
        locate(&mut scene, at(2, "2024-05-01T09:30:00Z"), "l2").text(),
        "is at latitude 2, longitude 0"
    );
    scene.advance(60);
    let late = locate(&mut scene, at(3, "2024-05-01T09:29:59Z"), "l3");
    assert_eq!(late.rc(), (200, None), "the device has done nothing wrong");
    assert!(
        late.text()
            .ends_with("nothing new, it was measured before the one that is known"),
        "{}",
        late.text()
    );
    assert_eq!(location(&scene)["latitude"], 2.0);
    locate(&mut scene, at(4, "2024-05-01T09:30:00Z"), "l4");
    assert_eq!(location(&scene)["latitude"], 4.0, "the same time: the later message");
    // A clock that is ahead does not hold for ever what was received today.
    locate(&mut scene, at(5, "2099-01-01T00:00:00Z"), "l5");
    scene.advance(60);
    locate(&mut scene, json!({"latitude": 6, "longitude": 0}), "l6");
    assert_eq!(
        location(&scene)["latitude"],
        6.0,
        "without a time it is as old as its receipt"
    );
    locate(&mut scene, at(7, "2024-05-01T10:01:30Z"), "l7");
    assert_eq!(location(&scene)["latitude"], 6.0, "and that was half a minute later");
}

#[test]
fn the_echo_of_a_location_that_an_operator_wrote_is_no_news() {
    for elevation in [None, Some(34.0)] {
        let mut scene = scene();
        let mut place = json!({"latitude": 52.52, "longitude": 13.405});
        if let Some(metres) = elevation {
            place["elevation"] = json!(metres);
        }
        let (_, sent) = written(&mut scene, json!({"location": place}));
        let value = sent.2["d"]["fields"][0]["value"].clone();
        assert_eq!(
            value["measuredDateTime"], "2024-05-01T10:00:00Z",
            "as the platform sends it: {value}"
        );
        scene.advance(1);
        scene.respond(&gw(), &req_id(&sent), 204, "");
        let kept = location(&scene);
        assert!(row(&scene).location_written);
        assert_eq!(kept["updatedDateTime"], "2024-05-01T10:00:01Z");
        scene.advance(60);
        for (req_id, echo) in [("echo", place.clone()), ("again", value.clone())] {
            let said = locate(&mut scene, echo, req_id);
            assert_eq!(said.rc(), (200, None));
            assert!(
                said.text().ends_with("nothing new, it repeats what an operator wrote"),
                "{}",
                said.text()
            );
            assert_eq!(location(&scene), kept);
            assert!(row(&scene).location_written);
        }
        let mut moved = place.clone();
        moved["latitude"] = json!(52.53);
        locate(&mut scene, moved, "moved");
        assert_eq!(location(&scene)["latitude"], 52.53);
        assert!(!row(&scene).location_written, "now the device says where it is");
        locate(&mut scene, place, "back");
        assert_eq!(location(&scene)["latitude"], 52.52);
    }
}

#[test]
fn a_device_that_knows_better_than_the_operator_tells_an_earlier_measurement_and_is_believed() {
    let mut scene = scene();
    let (_, sent) = written(&mut scene, json!({"location": {"latitude": 1, "longitude": 2}}));
    scene.advance(1);
    scene.respond(&gw(), &req_id(&sent), 204, "");
    let measured = json!({"latitude": 52, "longitude": 13, "measuredDateTime": "2024-05-01T09:00:00Z"});
    assert_eq!(
        locate(&mut scene, measured, "l").text(),
        "is at latitude 52, longitude 13"
    );
    assert_eq!(location(&scene)["latitude"], 52.0);
    assert!(!row(&scene).location_written);
}

#[test]
fn a_device_whose_measurement_is_what_was_written_has_measured_it() {
    let mut scene = scene();
    let (_, sent) = written(&mut scene, json!({"location": {"latitude": 1, "longitude": 2}}));
    scene.respond(&gw(), &req_id(&sent), 204, "");
    let measured = json!({"latitude": 1, "longitude": 2, "measuredDateTime": "2024-05-01T11:00:00Z"});
    locate(&mut scene, measured, "l");
    assert!(!row(&scene).location_written);
    assert_eq!(location(&scene)["measuredDateTime"], "2024-05-01T11:00:00Z");
}

#[test]
fn a_location_that_is_none_is_answered_400_and_changes_nothing() {
    let mut scene = scene();
    locate(&mut scene, json!({"latitude": 1, "longitude": 2}), "l1");
    let kept = location(&scene);
    for (d, said) in [
        (json!({"latitude": 1}), "d.longitude: is missing"),
        (json!({"latitude": 90.1, "longitude": 0}), "d.latitude: is 90.1"),
        (json!({"latitude": 0, "longitude": -181}), "d.longitude: is -181"),
        (json!({"latitude": "0", "longitude": 0}), "d.latitude: is a string"),
        (
            json!({"latitude": 0, "longitude": 0, "accuracy": -1}),
            "d.accuracy: is negative",
        ),
        (
            json!({"latitude": 0, "longitude": 0, "measuredDateTime": "2024-05-01"}),
            "d.measuredDateTime: is no time",
        ),
    ] {
        let answer = locate(&mut scene, d, "bad");
        let (rc, message) = answer.rc();
        assert_eq!(rc, 400);
        assert!(message.unwrap().starts_with(said), "{message:?}");
        assert_eq!(location(&scene), kept);
    }
}
