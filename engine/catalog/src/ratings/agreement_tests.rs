use super::super::schema::place_of;
use super::*;

/// Tracks that are rated by the attributes of one category alone.
fn pairs(category: Category, rated: &[f32], truly: &[f32]) -> Vec<Pair> {
    let fill = |value: f32| {
        let mut all = [f32::NAN; COUNT];
        for (place, attribute) in ATTRIBUTES.iter().enumerate() {
            if attribute.category == category {
                all[place] = value;
            }
        }
        all
    };
    let values = rated.iter().zip(truly);
    values
        .map(|(&rated, &truly)| Pair {
            rated: fill(rated),
            truly: fill(truly),
        })
        .collect()
}

const RATED: [f32; 10] = [0.0, 0.0, 1.0, 1.0, 2.0, 5.0, 5.0, 5.0, 3.0, 2.5];
const TRULY: [f32; 10] = [0.0, 1.0, 1.0, 0.0, 2.0, 5.0, 4.0, 4.0, 3.0, 2.5];

#[test]
fn the_correlation_is_scipys_ties_included() {
    // scipy.stats.spearmanr of SciPy 1.17.1.
    for (rated, truly, expected) in [
        (&RATED[..], &TRULY[..], 0.940_851_058_532_207_6),
        (
            &[1.0, 2.0, 3.0, 4.0, 5.0],
            &[5.0, 6.0, 7.0, 8.0, 7.0],
            0.820_782_681_668_123_3,
        ),
        (
            &[2.0, 2.0, 2.0, 2.0, 3.0],
            &[1.0, 2.0, 3.0, 4.0, 0.0],
            -0.707_106_781_186_547_5,
        ),
        (
            &[0.1, 4.9, 3.2, 2.2, 2.2, 1.0, 0.0],
            &[5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 4.5],
            -0.954_993_710_457_292_4,
        ),
        (&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0], 0.8),
    ] {
        let found = agreement(&pairs(Category::Harmony, rated, truly), 0, 1);
        let value = found.all.spearman.unwrap();
        assert!((value - expected).abs() < 1e-12, "{value} {expected}");
        assert_eq!((found.all.low, found.all.high), (None, None));
    }
    // Tracks that count several times, or not at all: the same as writing them so often.
    let column = Column::new(&pairs(Category::Harmony, &RATED, &TRULY), 7);
    let value = column.spearman(&[2, 0, 1, 3, 0, 1, 1, 0, 2, 0]).unwrap();
    assert!((value - 0.905_736_267_980_090_8).abs() < 1e-12, "{value}");
}

#[test]
fn categories_are_means_of_their_attributes_and_flat_ones_are_counted() {
    let mut tracks = pairs(Category::Harmony, &RATED, &TRULY);
    let (tonality, tempo) = (7, place_of("Tempo").unwrap());
    for (place, track) in tracks.iter_mut().enumerate() {
        // Backwards.
        track.rated[tonality] = -track.truly[tonality];
        track.rated[tempo] = 2.5;
        track.truly[tempo] = place as f32;
    }
    let found = agreement(&tracks, 100, 7);
    let names: Vec<Category> = found.categories.iter().map(|c| c.category).collect();
    assert_eq!(names, [Category::Harmony, Category::Rhythm]);
    let [harmony, rhythm] = [&found.categories[0].mean, &found.categories[1].mean];
    let expected = (0.940_851_058_532_207_6 - 1.0) / 2.0;
    assert!((harmony.spearman.unwrap() - expected).abs() < 1e-12);
    assert_eq!((harmony.attributes, harmony.flat), (2, 0));
    assert_eq!(
        (rhythm.spearman, rhythm.attributes, rhythm.flat),
        (None, 0, 1)
    );
    assert_eq!(rhythm.low, None);
    assert_eq!((found.all.attributes, found.all.flat), (2, 1));
    let organ = found
        .attributes
        .iter()
        .find(|a| a.attribute == "Organ")
        .unwrap();
    assert_eq!((organ.tracks, organ.spearman), (0, None));
    assert_eq!(found.tracks, 10);
}

#[test]
fn ratings_that_are_missing_on_one_side_are_not_compared() {
    let mut tracks = pairs(Category::Harmony, &RATED, &TRULY);
    let whole = agreement(&tracks, 0, 0);
    tracks.extend(pairs(Category::Harmony, &[5.0, f32::NAN], &[f32::NAN, 0.0]));
    let found = agreement(&tracks, 0, 0);
    assert_eq!(found.all.spearman, whole.all.spearman);
    assert_eq!(found.attributes[7].tracks, 10);
    assert_eq!(agreement(&[], 10, 0).all.spearman, None);
}

#[test]
fn the_interval_holds_the_truth_as_often_as_it_says() {
    // Two raters that agree by half: rank correlation is known for normals, 6/π·asin(ρ/2).
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let truth = 6.0 / std::f64::consts::PI * (0.25f64).asin();
    let (mut inside, mut width) = (0, 0.0);
    for seed in 0..100 {
        let (mut rated, mut truly) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            let (shared, own) = (normal(), normal());
            truly.push(shared as f32);
            rated.push((0.5 * shared + 0.75f64.sqrt() * own) as f32);
        }
        let found = agreement(&pairs(Category::Harmony, &rated, &truly), 200, seed).all;
        let (low, high) = (found.low.unwrap(), found.high.unwrap());
        assert!(low < found.spearman.unwrap() && found.spearman.unwrap() < high);
        width += (high - low) / 100.0;
        inside += usize::from(low < truth && truth < high);
    }
    assert!((86..=100).contains(&inside), "{inside} of 100");
    assert!((0.3..0.6).contains(&width), "{width}");
    let tracks = pairs(Category::Harmony, &RATED, &TRULY);
    assert_eq!(agreement(&tracks, 50, 3), agreement(&tracks, 50, 3));
    assert_ne!(
        agreement(&tracks, 50, 3).all.low,
        agreement(&tracks, 50, 4).all.low
    );
}
