//! Disks that are too small, full, or no disks.

use std::io::Write;

use iotdm::host::download::FailureKind;

use crate::server::{Reply, Server, Shelf};
use crate::small_disk::SmallDisk;
use crate::{Scene, assert_failure, names};

fn scene_on(disk: &SmallDisk, server: &Server) -> Scene {
    let mut scene = Scene::at(server);
    scene.download.file = disk.path.join("bundle");
    scene.download.limits.reserve = 1 << 20;
    scene
}

#[tokio::test]
async fn fwd_04_a_file_that_has_no_room_beside_the_reserve_is_not_begun() {
    let disk = SmallDisk::mount("4m");
    // It would fit, but then less than 1 MiB of 4 would be left.
    let shelf = Shelf::new(3_500_000);
    let server = Server::start(move |request| shelf.reply(request)).await;
    let failure = scene_on(&disk, &server).fails().await;
    assert_failure(&failure, FailureKind::NoSpace, "no room for the firmware");
    assert_eq!(names(&disk.path), Vec::<String>::new());

    let fits = Shelf::new(2_500_000);
    let served = fits.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let scene = scene_on(&disk, &server);
    assert_eq!(scene.run().await.unwrap().size, 2_500_000);
}

#[tokio::test]
async fn fwd_04_a_disk_that_fills_up_in_the_middle_ends_it_and_what_came_makes_room() {
    let disk = SmallDisk::mount("4m");
    // Somebody else writes while it is interrupted.
    let (shelf, ballast) = (Shelf::new(2_500_000), disk.path.join("ballast"));
    let server = Server::start(move |request| match request.number {
        0 => shelf.reply(request).cut(1_000_000),
        _ => {
            std::fs::File::create(&ballast)
                .unwrap()
                .write_all(&[0; 1_500_000])
                .unwrap();
            shelf.reply(request)
        }
    })
    .await;
    let failure = scene_on(&disk, &server).fails().await;
    assert_failure(&failure, FailureKind::NoSpace, "no room for the firmware");
    assert_eq!(names(&disk.path), ["ballast"]);
}

#[tokio::test]
async fn fwd_04_a_disk_that_is_full_to_the_last_block_ends_it_too() {
    let disk = SmallDisk::mount("4m");
    let file = disk.path.join("ballast");
    let mut ballast = std::fs::File::create(file).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
    let shelf = Shelf::new(100_000);
    let server = Server::start(move |request| shelf.reply(request)).await;
    let mut scene = scene_on(&disk, &server);
    scene.download.limits.reserve = 0;
    assert_failure(&scene.fails().await, FailureKind::NoSpace, "make room on the device");
    assert_eq!(names(&disk.path), ["ballast"]);
}

#[tokio::test]
async fn fwd_11_a_file_over_the_size_limit_is_ended_when_that_is_known() {
    let shelf = Shelf::new(2_000_000);
    let served = shelf.clone();
    let server = Server::start(move |request| match request.target.as_str() {
        // The length is told before the first byte.
        "/told" => served.reply(request),
        // Or never.
        _ => {
            let mut body = format!("{:x}\r\n", served.content.len()).into_bytes();
            body.extend(&served.content);
            body.extend(b"\r\n0\r\n\r\n");
            Reply::new("200 OK", &[("Transfer-Encoding", "chunked".to_owned())], &body)
        }
    })
    .await;
    for path in ["/told", "/untold"] {
        let mut scene = Scene::new(&server.uri(path));
        scene.download.limits.max_size = 1_999_999;
        assert_failure(&scene.fails().await, FailureKind::NoSpace, "firmware.max_size");
        assert_eq!(scene.names(), Vec::<String>::new());
        scene.download.limits.max_size = 2_000_000;
        scene.brings(&shelf).await;
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let server = Server::start(|request| Shelf::new(10).reply(request)).await;
    let mut scene = Scene::at(&server);
    scene.download.file = "/nonexistent/bundle".into();
    assert_failure(&scene.fails().await, FailureKind::NoSpace, "/nonexistent/bundle");
    assert!(server.requests().is_empty());
}
