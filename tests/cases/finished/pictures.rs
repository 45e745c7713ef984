//! Pictures from the world, and pictures for it.

use end_to_end_tests::{Bench, tiny};
use image::{ImageEncoder, Rgb, RgbImage, Rgba, RgbaImage};

const TINY: &str = "--limit-train 50 --limit-test 10 --epochs 1 --run-dir r";

/// The 32 x 32 input that a reconstruction shows on its left, enlarged four times.
fn input(bench: &Bench, image: &str, more: &[&str]) -> RgbImage {
    let flags = [
        &[
            "reconstruct",
            "--run-dir",
            "r",
            "--image",
            image,
            "--out",
            "g.png",
        ],
        more,
    ]
    .concat();
    bench.trainer(&flags).success();
    let pair = image::open(bench.path("g.png"))
        .expect("a picture")
        .to_rgb8();
    RgbImage::from_fn(32, 32, |x, y| *pair.get_pixel(4 * x, 4 * y))
}

/// Red at the top left, green at the top right, blue below.
fn quarters(side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| match (x < side / 2, y < side / 2) {
        (true, true) => Rgb([255, 0, 0]),
        (false, true) => Rgb([0, 255, 0]),
        _ => Rgb([0, 0, 255]),
    })
}

fn jpeg(picture: &RgbImage, exif: Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 100);
    if let Some(exif) = exif {
        encoder.set_exif_metadata(exif).expect("taken");
    }
    encoder
        .write_image(
            picture.as_raw(),
            picture.width(),
            picture.height(),
            image::ExtendedColorType::Rgb8,
        )
        .expect("encoded");
    bytes
}

/// A little-endian TIFF header with one entry: orientation (0x0112), of type short.
fn orientation(value: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0".to_vec();
    exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, value, 0, 0, 0]);
    exif.extend([0, 0, 0, 0]);
    exif
}

#[test]
fn photos_are_turned_composited_and_refused_where_half_is_missing() {
    let bench = Bench::new();
    bench.trainer(&tiny(TINY)).success();

    // 6 says: turn by 90 degrees clockwise. The left column, red over blue, becomes the top row.
    std::fs::write(
        bench.path("turned.jpg"),
        jpeg(&quarters(64), Some(orientation(6))),
    )
    .expect("written");
    let turned = input(&bench, "turned.jpg", &[]);
    let is_near = |pixel: &Rgb<u8>, wanted: [u8; 3]| {
        pixel
            .0
            .iter()
            .zip(wanted)
            .all(|(value, wanted)| value.abs_diff(wanted) < 60)
    };
    assert!(
        is_near(turned.get_pixel(24, 8), [255, 0, 0]),
        "{:?}",
        turned.get_pixel(24, 8)
    );
    assert!(
        is_near(turned.get_pixel(24, 24), [0, 255, 0]),
        "{:?}",
        turned.get_pixel(24, 24)
    );

    // Red that nobody sees, and red that half shows.
    let see_through = RgbaImage::from_fn(32, 32, |x, _| {
        Rgba([255, 0, 0, if x < 16 { 0 } else { 128 }])
    });
    see_through.save(bench.path("alpha.png")).expect("saved");
    let white = input(&bench, "alpha.png", &[]);
    assert_eq!(white.get_pixel(0, 0), &Rgb([255, 255, 255]));
    assert_eq!(white.get_pixel(31, 0), &Rgb([255, 127, 127]));
    let blue = input(&bench, "alpha.png", &["--background", "0000ff"]);
    assert_eq!(blue.get_pixel(0, 0), &Rgb([0, 0, 255]));

    let noise = RgbImage::from_fn(200, 200, |x, y| {
        Rgb([((x * 37) ^ (y * 91)) as u8, (x * y) as u8, y as u8])
    });
    let whole = jpeg(&noise, None);
    std::fs::write(bench.path("half.jpg"), &whole[..whole.len() / 2]).expect("written");
    let reconstruct = |image: &str| {
        bench.trainer(&[
            "reconstruct",
            "--run-dir",
            "r",
            "--image",
            image,
            "--out",
            "h.png",
        ])
    };
    reconstruct("half.jpg").failure(2, &["half.jpg", "ends before"]);
    std::fs::write(bench.path("words.png"), "no picture").expect("written");
    reconstruct("words.png").failure(2, &["words.png"]);
    reconstruct("missing.png").failure(2, &["missing.png"]);
    assert!(!bench.path("h.png").exists());

    // 63 kB that would take a gigabyte.
    std::fs::write(bench.path("wide.png"), png_of_one_bit(16_000)).expect("written");
    let began = std::time::Instant::now();
    reconstruct("wide.png").failure(2, &["16000 x 16000 pixels", "at most 67 million pixels"]);
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());

    // The photo itself is not written over, by whatever name.
    std::fs::write(bench.path("photo.png"), &whole).expect("written");
    bench
        .trainer(&[
            "reconstruct",
            "--run-dir",
            "r",
            "--image",
            "photo.png",
            "--out",
            "./photo.png",
        ])
        .failure(2, &["--out", "--image"]);
    assert!(bench.read("photo.png") == whole);
}

/// A black PNG of one bit a pixel, made line by line, as `image` cannot make one.
fn png_of_one_bit(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().expect("a header");
    let mut stream = writer.stream_writer().expect("a stream");
    let line = vec![0; side as usize / 8];
    for _ in 0..side {
        std::io::Write::write_all(&mut stream, &line).expect("written");
    }
    stream.finish().expect("written");
    writer.finish().expect("written");
    bytes
}

#[test]
fn many_draws_are_a_sheet_an_array_or_pictures_and_take_no_more_memory() {
    let bench = Bench::new();
    bench.trainer(&tiny(TINY)).success();
    let sample = |more: &[&str]| {
        let flags = [&["sample", "--run-dir", "r"], more].concat();
        bench.trainer(&flags)
    };
    for rows in ["0", "2000000000000000000"] {
        sample(&["--rows", rows, "--out", "s.png"]).failure(2, &["--rows"]);
    }
    sample(&["--rows", "101", "--out", "tall.png"]).success();
    sample(&["--count", "1010", "--out", "a.npy"]).success();
    sample(&["--count", "33", "--out", "folder"]).success();
    let sheet = image::open(bench.path("tall.png"))
        .expect("a picture")
        .to_rgb8();
    assert_eq!(sheet.dimensions(), (658, 101 * 66 - 2));
    let array = bench.read("a.npy");
    assert!(array.starts_with(b"\x93NUMPY\x01\0"));
    let header = usize::from(u16::from_le_bytes([array[8], array[9]]));
    let text = String::from_utf8_lossy(&array[10..10 + header]).into_owned();
    assert!(
        text.contains("'|u1'") && text.contains("(1010, 32, 32, 3)"),
        "{text}"
    );
    let pixels = &array[10 + header..];
    assert_eq!((10 + header) % 64, 0);
    assert_eq!(pixels.len(), 1010 * 3072);
    // The three forms hold the same draws, and so does the run's own sheet of a hundred.
    let own = image::open(bench.path("r/samples/final-10x10.png"))
        .expect("a picture")
        .to_rgb8();
    for index in [0, 9, 32, 57, 99, 1009] {
        let (left, top) = (index as u32 % 10 * 66, index as u32 / 10 * 66);
        for (x, y) in [(0, 0), (31, 5), (17, 31)] {
            let from = index * 3072 + (y as usize * 32 + x as usize) * 3;
            let expected = Rgb([pixels[from], pixels[from + 1], pixels[from + 2]]);
            assert_eq!(
                *sheet.get_pixel(left + 2 * x, top + 2 * y),
                expected,
                "{index}"
            );
            if index < 100 {
                assert_eq!(
                    *own.get_pixel(left + 2 * x + 1, top + 2 * y + 1),
                    expected,
                    "{index}"
                );
            }
            if index < 33 {
                let picture = image::open(bench.path(&format!("folder/{index:05}.png")));
                let picture = picture.expect("a picture").to_rgb8();
                assert_eq!(*picture.get_pixel(x, y), expected, "{index}");
            }
        }
    }
    assert_eq!(
        std::fs::read_dir(bench.path("folder"))
            .expect("listed")
            .count(),
        33
    );
    sample(&["--count", "33", "--out", "folder"]).failure(2, &["not empty"]);
    for out in ["s.jpg", "s.WEBP"] {
        sample(&["--out", out]).failure(2, &["--out", "s.png"]);
    }
    sample(&["--out", "-"]).failure(2, &["/dev/stdout"]);
    sample(&["--out", "new/dir/s.png"]).failure(2, &["the folder new/dir does not exist"]);
    for name in ["s.jpg", "s.WEBP", "-", "new"] {
        assert!(!bench.path(name).exists(), "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn fifty_times_the_draws_take_the_same_memory() {
    let bench = Bench::new();
    bench.trainer(&tiny(TINY)).success();
    let program = bench.trainer_command().get_program().to_owned();
    // In kilobytes, by the shell's own account of its child.
    let peak = |rows: &str, out: &str| {
        let mut child = bench
            .command(program.to_str().expect("text"))
            .args(["sample", "--run-dir", "r", "--rows", rows, "--out", out])
            .env("MIMALLOC_PURGE_DELAY", "0")
            .spawn()
            .expect("started");
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0u64;
        while child.try_wait().expect("asked").is_none() {
            if let Ok(text) = std::fs::read_to_string(&status)
                && let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))
            {
                let number = line.trim().trim_end_matches("kB").trim().parse();
                peak = peak.max(number.unwrap_or(0));
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(child.wait().expect("ended").success());
        peak
    };
    let (few, many) = (peak("110", "few.png"), peak("1000", "many.png"));
    assert!(
        many < few + 40_000,
        "{few} kB for 1,100 images, {many} kB for 10,000"
    );
}

#[test]
fn exported_weights_say_whose_layout_they_have() {
    let bench = Bench::new();
    bench.trainer(&tiny(TINY)).success();
    for name in ["model", "encoder", "decoder", "reference"] {
        let bytes = bench.read(&format!("r/{name}.safetensors"));
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
        let header: serde_json::Value =
            serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
        assert_eq!(header["__metadata__"]["format"], "pt", "{name}");
    }
}
