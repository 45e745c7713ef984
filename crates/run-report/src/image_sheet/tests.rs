//! Exact pixels of sheets, and pictures read back.

use super::*;
use image::{Rgb, RgbImage};

fn decode(png: &[u8]) -> RgbImage {
    image::load_from_memory(png).unwrap().into_rgb8()
}

/// A picture in which every pixel differs: red is the row, green the column, blue the picture.
fn picture(number: u8) -> Vec<u8> {
    let plane = |value: &dyn Fn(usize) -> u8| (0..PLANE).map(value).collect::<Vec<u8>>();
    [
        plane(&|at| (at / SIDE) as u8),
        plane(&|at| (at % SIDE) as u8),
        plane(&|_| number),
    ]
    .concat()
}

/// Every pixel of the sheet, for several layouts: its own picture's pixel, or background.
#[test]
fn every_pixel_is_where_it_belongs() {
    for (count, columns, gap, upscale) in [
        (5, 2, 2, 1),
        (6, 3, 0, 1),
        (3, 4, 1, 3),
        (1, 1, 2, 2),
        (4, 1, 5, 1),
    ] {
        let images: Vec<u8> = (0..count).flat_map(picture).collect();
        let layout = SheetLayout {
            columns,
            gap,
            upscale,
        };
        let sheet = decode(&encode_png_u8(&images, layout).unwrap());
        let pitch = SIDE * upscale + gap;
        let rows = usize::from(count).div_ceil(columns);
        assert_eq!(sheet.width() as usize, columns * pitch - gap);
        assert_eq!(sheet.height() as usize, rows * pitch - gap);
        let mut covered = 0;
        for (x, y, pixel) in sheet.enumerate_pixels() {
            let (column, x) = (x as usize / pitch, x as usize % pitch / upscale);
            let (row, y) = (y as usize / pitch, y as usize % pitch / upscale);
            let index = row * columns + column;
            let expected = if x < SIDE && y < SIDE && index < usize::from(count) {
                covered += 1;
                [y as u8, x as u8, index as u8]
            } else {
                [255; 3]
            };
            assert_eq!(
                pixel.0, expected,
                "{layout:?} at row {row}, column {column}, {x}, {y}"
            );
        }
        assert_eq!(
            covered,
            usize::from(count) * PLANE * upscale * upscale,
            "no picture covers another"
        );
    }
}

#[test]
fn values_are_clamped_and_not_rescaled() {
    let mut image = vec![0.5; VALUES];
    image[0] = -3.0;
    image[1] = 7.0;
    image[2] = f32::NAN;
    image[3] = 0.25;
    let sheet = decode(&encode_png(&image, SheetLayout::with_columns(1)).unwrap());
    let reds: Vec<u8> = (0..5).map(|x| sheet.get_pixel(x, 0).0[0]).collect();
    assert_eq!(reds, [0, 255, 0, 64, 128]);
}

#[test]
fn the_same_pictures_give_the_same_bytes() {
    let images: Vec<u8> = (0..4).flat_map(picture).collect();
    let layout = SheetLayout::with_columns(2);
    assert_eq!(
        encode_png_u8(&images, layout).unwrap(),
        encode_png_u8(&images, layout).unwrap()
    );
}

#[test]
fn impossible_sheets_are_errors() {
    let sheet = |values, layout| encode_png_u8(&vec![0; values], layout).unwrap_err();
    let good = SheetLayout::with_columns(2);
    assert!(matches!(
        sheet(0, good),
        ImageSheetError::NotWholePictures { found: 0 }
    ));
    assert!(matches!(
        sheet(VALUES + 1, good),
        ImageSheetError::NotWholePictures { .. }
    ));
    for layout in [
        SheetLayout { columns: 0, ..good },
        SheetLayout { upscale: 0, ..good },
        SheetLayout {
            upscale: usize::MAX,
            ..good
        },
        SheetLayout {
            gap: usize::MAX,
            ..good
        },
    ] {
        assert!(
            matches!(
                sheet(VALUES, layout),
                ImageSheetError::ImpossibleLayout { .. }
            ),
            "{layout:?}"
        );
    }
}

#[test]
fn a_written_picture_reads_back_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.png");
    let image: Vec<f32> = picture(200)
        .into_iter()
        .map(|byte| f32::from(byte) / 255.0)
        .collect();
    write_png(&path, &image, SheetLayout::with_columns(1)).unwrap();
    assert_eq!(load_rgb_image(&path).unwrap(), image);
}

#[test]
fn other_sizes_are_resized_whatever_the_name_says() {
    let folder = tempfile::tempdir().unwrap();
    // Left half red, right half blue, wider than high; a PNG by content only.
    let large = RgbImage::from_fn(256, 100, |x, _| {
        Rgb(if x < 128 { [255, 0, 0] } else { [0, 0, 255] })
    });
    let path = folder.path().join("picture.jpg");
    large
        .save_with_format(&path, image::ImageFormat::Png)
        .unwrap();
    let planes = load_rgb_image(&path).unwrap();
    assert_eq!(planes.len(), VALUES);
    for y in 0..SIDE {
        assert_eq!((planes[y * SIDE], planes[y * SIDE + 31]), (1.0, 0.0), "red");
        assert_eq!(
            (
                planes[2 * PLANE + y * SIDE],
                planes[2 * PLANE + y * SIDE + 31]
            ),
            (0.0, 1.0),
            "blue"
        );
    }
}

#[test]
fn missing_files_and_other_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.png");
    assert!(matches!(
        load_rgb_image(&path).unwrap_err(),
        ImageSheetError::Unreadable { .. }
    ));
    std::fs::write(&path, "no picture").unwrap();
    let error = load_rgb_image(&path).unwrap_err();
    assert!(matches!(error, ImageSheetError::NoPicture { .. }));
    assert!(
        error.to_string().contains("text.png") && error.to_string().contains("PNG or JPEG"),
        "{error}"
    );
}
