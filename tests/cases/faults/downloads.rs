//! `cargo xtask download` itself, killed while it downloads all of CIFAR-10, where `CIFAR10_DIR` holds its container.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use end_to_end_tests::Bench;
use end_to_end_tests::faults::{Draws, cases, passed};

const CONTAINER: &str = "cifar-10-binary.tar.gz";

/// Serves a file with ranges, 60 megabytes a second or so; returns its address.
fn serve(file: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let file = file.clone();
            // A client that is killed ends its connection with an error.
            std::thread::spawn(move || answer(stream, &file));
        }
    });
    format!("http://{address}/{CONTAINER}")
}

fn answer(mut stream: TcpStream, file: &Path) -> std::io::Result<()> {
    let mut start = 0;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().unwrap_or(0);
        }
    }
    let mut file = File::open(file)?;
    let total = file.metadata()?.len();
    file.seek(SeekFrom::Start(start))?;
    let status = match start {
        0 => "200 OK".to_owned(),
        _ => format!(
            "206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}",
            total - 1
        ),
    };
    let length = total - start;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
        std::thread::sleep(Duration::from_millis(15));
    }
}

#[cfg(unix)]
#[test]
fn faults_killed_downloads_of_the_whole_data_set_are_continued() {
    let container =
        std::env::var_os("CIFAR10_DIR").map(|folder| Path::new(&folder).join(CONTAINER));
    let Some(container) = container.filter(|container| container.is_file()) else {
        println!("not tried with the whole data set: CIFAR10_DIR names no folder with {CONTAINER}");
        return;
    };
    let count = cases(1, 3, 20);
    let url = serve(container);
    let mut draws = Draws::new(3);
    let mut kills = 0;
    while kills < count {
        let bench = Bench::new();
        let arguments = ["download", "--data-dir", "d", "--url", &url];
        // Two of three are killed, at any time of a download of some 5 seconds.
        while kills < count && draws.below(3) > 0 {
            let mut command = bench.xtask_command();
            command
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut child = command.spawn().expect("it starts");
            std::thread::sleep(Duration::from_millis(draws.below(5000)));
            child.kill().expect("it is ours");
            let status = child.wait().expect("it ends");
            kills += usize::from(status.code().is_none());
        }
        bench.xtask(&arguments).success();
        let left: Vec<_> = fs::read_dir(bench.path("d"))
            .expect("a folder")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, ["cifar-10-batches-bin"]);
        let members = fs::read_dir(bench.path("d/cifar-10-batches-bin")).expect("a folder");
        assert_eq!(members.count(), 6);
        // The doctor hashes every member.
        let doctor = bench.xtask(&["doctor", "--offline", "--data-dir", "d"]);
        assert!(
            doctor.stdout.contains("cifar-10, 60000 images, verified"),
            "{}",
            doctor.stdout
        );
    }
    passed("killed downloads", kills);
}
