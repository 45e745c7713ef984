//! An HTTP/1.1 server on a real socket that misbehaves as told.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What to do with one request. The last one of a list is repeated.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The file, honouring ranges and If-Range, with an ETag.
    File,
    /// The whole file, whatever range was asked for.
    IgnoreRange,
    /// The file, without a length, in chunks.
    Chunked,
    /// The first bytes of what was asked for, then the connection ends.
    ResetAfter(usize),
    /// The first bytes of what was asked for, then silence.
    StallAfter(usize),
    /// The file slowly: bytes at a time, with a pause after each.
    Trickle(usize, Duration),
    /// A range other than the one asked for.
    WrongRange,
    /// The range asked for, of an object of another size.
    WrongTotal,
    /// A status, with extra headers and a body.
    Status(u16, String, &'static str),
    /// Another body with 200.
    Body(Vec<u8>),
    /// Endless bytes that begin like gzip.
    Endless,
    /// At most so many bytes of what was asked for, without saying how many there are.
    NoLength(usize),
    /// What was asked for, with a length that is wrong by so many bytes.
    WrongLength(i64),
    /// The first bytes of another object with an ETag of its own, then the connection ends.
    OtherObject(usize),
    /// 416 where a range was asked for, else the file.
    NoSuchRange,
}

/// Runs until the process ends.
pub(crate) struct Server {
    address: SocketAddr,
    /// The range header of each request so far, or "-".
    pub(crate) ranges: Arc<Mutex<Vec<String>>>,
    /// Bytes of bodies that trickled out so far.
    sent: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(file: Vec<u8>, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(AtomicUsize::new(0));
        let (seen, sum) = (ranges.clone(), sent.clone());
        let file = Arc::new(file);
        thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let answer = answers[index.min(answers.len() - 1)].clone();
                let (file, seen, sum) = (file.clone(), seen.clone(), sum.clone());
                // A client that hangs up early is part of the game.
                thread::spawn(move || {
                    stream.and_then(|stream| serve(stream, &file, &answer, &seen, &sum))
                });
            }
        });
        Self {
            address,
            ranges,
            sent,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/cifar-10-binary.tar.gz", self.address)
    }

    /// Bytes of bodies that [`Answer::Trickle`] has sent so far.
    pub(crate) fn trickled(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.ranges.lock().unwrap().clone()
    }
}

fn serve(
    mut out: TcpStream,
    file: &[u8],
    answer: &Answer,
    seen: &Mutex<Vec<String>>,
    sent: &AtomicUsize,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(out.try_clone()?).lines();
    let mut range = None;
    let mut is_same_entity = true;
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("range: bytes=") {
            range = value.trim_end_matches('-').parse::<usize>().ok();
        }
        if let Some(value) = line.strip_prefix("if-range: ") {
            is_same_entity = value == "\"one\"";
        }
    }
    seen.lock()
        .unwrap()
        .push(range.map_or("-".to_owned(), |start| start.to_string()));
    let start = range.filter(|_| is_same_entity);
    let total = file.len();
    let head = |start: Option<usize>, length: usize, total: usize| match start {
        None => format!(
            "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        ),
        Some(start) => format!(
            "HTTP/1.1 206 Partial Content\r\nETag: \"one\"\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Range: bytes {start}-{}/{total}\r\n\r\n",
            start + length - 1
        ),
    };
    if start.is_some_and(|start| start >= total) {
        return write!(
            out,
            "HTTP/1.1 416 Range Not Satisfiable\r\nConnection: close\r\nContent-Range: bytes */{total}\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }
    let rest = &file[start.unwrap_or(0)..];
    match answer {
        Answer::File => {
            out.write_all(head(start, rest.len(), total).as_bytes())?;
            out.write_all(rest)
        }
        Answer::IgnoreRange => {
            out.write_all(head(None, total, total).as_bytes())?;
            out.write_all(file)
        }
        Answer::Chunked => {
            out.write_all(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
            for chunk in file.chunks(10_000) {
                write!(out, "{:x}\r\n", chunk.len())?;
                out.write_all(chunk)?;
                out.write_all(b"\r\n")?;
            }
            out.write_all(b"0\r\n\r\n")
        }
        Answer::ResetAfter(bytes) => {
            out.write_all(head(start, rest.len(), total).as_bytes())?;
            out.write_all(&rest[..rest.len().min(*bytes)])
        }
        Answer::StallAfter(bytes) => {
            out.write_all(head(start, rest.len(), total).as_bytes())?;
            out.write_all(&rest[..rest.len().min(*bytes)])?;
            thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Answer::Trickle(bytes, pause) => {
            out.write_all(head(start, rest.len(), total).as_bytes())?;
            for piece in rest.chunks(*bytes) {
                out.write_all(piece)?;
                sent.fetch_add(piece.len(), Ordering::SeqCst);
                thread::sleep(*pause);
            }
            Ok(())
        }
        Answer::WrongRange => {
            let start = start.map(|start| start - 1);
            out.write_all(head(start, total - start.unwrap_or(0), total).as_bytes())?;
            out.write_all(&file[start.unwrap_or(0)..])
        }
        Answer::WrongTotal => {
            out.write_all(head(start, rest.len(), total + 5).as_bytes())?;
            out.write_all(rest)
        }
        Answer::Status(status, headers, body) => write!(
            out,
            "HTTP/1.1 {status} Told\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        Answer::Body(body) => {
            out.write_all(head(None, body.len(), body.len()).as_bytes())?;
            out.write_all(body)
        }
        Answer::NoLength(bytes) => {
            let status = match start {
                None => "200 OK\r\n".to_owned(),
                Some(start) => format!(
                    "206 Partial Content\r\nContent-Range: bytes {start}-{}/*\r\n",
                    total - 1
                ),
            };
            write!(out, "HTTP/1.1 {status}Connection: close\r\n\r\n")?;
            out.write_all(&rest[..rest.len().min(*bytes)])
        }
        Answer::WrongLength(error) => {
            let rest = file;
            let length = (rest.len() as i64 + error) as usize;
            write!(
                out,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            )?;
            out.write_all(rest)
        }
        Answer::OtherObject(bytes) => {
            let other: Vec<u8> = file.iter().map(|byte| byte ^ 0x55).collect();
            write!(
                out,
                "HTTP/1.1 200 OK\r\nETag: \"two\"\r\nConnection: close\r\nContent-Length: {total}\r\n\r\n"
            )?;
            out.write_all(&file[..2])?;
            out.write_all(&other[2..total.min(*bytes)])
        }
        Answer::NoSuchRange if range.is_some() => out.write_all(
            b"HTTP/1.1 416 Range Not Satisfiable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        ),
        Answer::NoSuchRange => {
            out.write_all(head(None, total, total).as_bytes())?;
            out.write_all(file)
        }
        Answer::Endless => {
            out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\x1f\x8b")?;
            let block = vec![7; 1 << 16];
            loop {
                out.write_all(&block)?;
            }
        }
    }
}
