//! Names of artists and titles of tracks, made of words of their genre, so that text tells something
//! about music here too.

/// A genre: its words and how long its tracks are.
pub(super) struct Genre {
    pub(super) name: &'static str,
    /// The median length of a track, in seconds.
    pub(super) seconds: f64,
    pub(super) adjectives: [&'static str; 12],
    pub(super) nouns: [&'static str; 12],
    pub(super) places: [&'static str; 6],
}

/// How many kinds of names an artist may have, before places are added.
const ARTIST_FORMS: usize = 4;

/// How many kinds of titles there are.
const TITLE_FORMS: usize = 6;

/// How many titles an artist can have before one comes again.
pub(super) const TITLES_PER_ARTIST: usize = TITLE_FORMS * 12 * 12;

/// The name of the `index`-th artist of a genre; all of a genre differ.
pub(super) fn artist(genre: &Genre, index: usize) -> String {
    let form = index % ARTIST_FORMS;
    let rest = index / ARTIST_FORMS;
    // A stride that shares no factor with 144 visits every pair of words once.
    let pair = (rest * 43) % 144;
    let (adjective, noun) = (genre.adjectives[pair / 12], genre.nouns[pair % 12]);
    let round = rest / 144;
    let mut name = match form {
        0 => format!("The {adjective} {noun}s"),
        1 => format!("{adjective} {noun}"),
        2 => format!("{noun} & the {adjective} Ones"),
        _ => format!("{noun} {}", genre.name),
    };
    if form == 3 {
        // This form knows no adjective: the twelve rounds over the nouns are told apart.
        name = format!("{adjective} {name}");
    }
    if round > 0 {
        let place = genre.places[(round - 1) % 6];
        name.push_str(&format!(" of {place}"));
        if round > 6 {
            name.push_str(&format!(" {}", 1 + (round - 1) / 6));
        }
    }
    name
}

/// The title of an artist's `index`-th track; the first [`TITLES_PER_ARTIST`] of an artist differ,
/// and `salt` lets another artist begin elsewhere.
pub(super) fn title(genre: &Genre, index: usize, salt: usize) -> String {
    let at = (index * 577 + salt) % TITLES_PER_ARTIST;
    let (form, pair) = (at / 144, at % 144);
    let (adjective, noun) = (genre.adjectives[pair / 12], genre.nouns[pair % 12]);
    let place = genre.places[pair % 6];
    match form {
        0 => format!("{adjective} {noun}"),
        1 => format!("The {noun} Is {adjective}"),
        2 => format!("My {adjective} {noun} ({place})"),
        3 => format!("{noun} Song, {adjective} Version"),
        4 => format!("{adjective} Like a {noun}"),
        _ => format!("{adjective} {noun}, Part Two"),
    }
}

/// The genres.
pub(super) const GENRES: [Genre; 8] = [
    Genre {
        name: "Metal",
        seconds: 290.0,
        adjectives: [
            "Burning",
            "Iron",
            "Cursed",
            "Black",
            "Savage",
            "Eternal",
            "Rotten",
            "Infernal",
            "Bloody",
            "Frozen",
            "Merciless",
            "Pagan",
        ],
        nouns: [
            "Hammer", "Throne", "Serpent", "Grave", "Warlord", "Abyss", "Raven", "Chain", "Crypt",
            "Sword", "Demon", "Storm",
        ],
        places: [
            "Hell",
            "Valhalla",
            "Bergen",
            "the Wastes",
            "Mordheim",
            "the North",
        ],
    },
    Genre {
        name: "Techno",
        seconds: 350.0,
        adjectives: [
            "Digital",
            "Modular",
            "Acid",
            "Binary",
            "Minimal",
            "Strobing",
            "Analog",
            "Looped",
            "Magnetic",
            "Subsonic",
            "Synthetic",
            "Dubbed",
        ],
        nouns: [
            "Circuit",
            "Pulse",
            "Signal",
            "Oscillator",
            "Machine",
            "Frequency",
            "Warehouse",
            "Sequence",
            "Filter",
            "Kilohertz",
            "Sample",
            "Bassline",
        ],
        places: [
            "Berlin",
            "Detroit",
            "the Basement",
            "Sector 9",
            "Tresor Street",
            "the Grid",
        ],
    },
    Genre {
        name: "Folk",
        seconds: 215.0,
        adjectives: [
            "Wandering",
            "Gentle",
            "Weathered",
            "Lonesome",
            "Wild",
            "Humble",
            "Golden",
            "Mossy",
            "Faithful",
            "Old",
            "Barefoot",
            "Rainy",
        ],
        nouns: [
            "River", "Meadow", "Fiddle", "Shepherd", "Willow", "Sparrow", "Harvest", "Cottage",
            "Lantern", "Mountain", "Orchard", "Ferry",
        ],
        places: [
            "Kerry",
            "the Valley",
            "Appalachia",
            "the Moor",
            "Skye",
            "the Mill",
        ],
    },
    Genre {
        name: "Jazz",
        seconds: 330.0,
        adjectives: [
            "Blue", "Midnight", "Smoky", "Swinging", "Mellow", "Velvet", "Cool", "Crooked",
            "Sleepy", "Modal", "Late", "Muted",
        ],
        nouns: [
            "Trumpet",
            "Saxophone",
            "Quartet",
            "Ballad",
            "Standard",
            "Bop",
            "Cigarette",
            "Piano",
            "Brush",
            "Club",
            "Chorus",
            "Bass",
        ],
        places: [
            "Harlem",
            "New Orleans",
            "52nd Street",
            "Montreux",
            "Paris",
            "the Vanguard",
        ],
    },
    Genre {
        name: "Punk",
        seconds: 145.0,
        adjectives: [
            "Angry", "Broken", "Stupid", "Loud", "Bored", "Dirty", "Useless", "Fast", "Wasted",
            "Spiky", "Cheap", "Rude",
        ],
        nouns: [
            "Riot",
            "Police",
            "Suburb",
            "Anarchist",
            "Safety Pin",
            "Squat",
            "Teenager",
            "Boot",
            "Brick",
            "Leather",
            "Dole Queue",
            "Garage",
        ],
        places: [
            "London",
            "the Gutter",
            "Orange County",
            "the Bus Stop",
            "Leeds",
            "Nowhere",
        ],
    },
    Genre {
        name: "Pop",
        seconds: 205.0,
        adjectives: [
            "Sweet",
            "Shiny",
            "Crazy",
            "Sugar",
            "Perfect",
            "Neon",
            "Lucky",
            "Summer",
            "Forever",
            "Pretty",
            "Electric",
            "Heartbroken",
        ],
        nouns: [
            "Kiss", "Heart", "Dancer", "Baby", "Party", "Dream", "Girl", "Weekend", "Love",
            "Radio", "Diamond", "Crush",
        ],
        places: [
            "Malibu",
            "the Disco",
            "Stockholm",
            "Seoul",
            "the Mall",
            "Ibiza",
        ],
    },
    Genre {
        name: "Hip-Hop",
        seconds: 225.0,
        adjectives: [
            "Gold",
            "Hustling",
            "Street",
            "Real",
            "Heavy",
            "Grimy",
            "Fresh",
            "Concrete",
            "Young",
            "Bulletproof",
            "Paid",
            "Freestyle",
        ],
        nouns: [
            "Cipher",
            "Block",
            "Rhyme",
            "Mic",
            "Crew",
            "Turntable",
            "Boombox",
            "Hustler",
            "Corner",
            "Beat",
            "Sneaker",
            "Subway",
        ],
        places: [
            "Brooklyn",
            "Compton",
            "the Bronx",
            "Atlanta",
            "the Projects",
            "Marseille",
        ],
    },
    Genre {
        name: "Ambient",
        seconds: 410.0,
        adjectives: [
            "Drifting",
            "Weightless",
            "Silent",
            "Distant",
            "Luminous",
            "Slow",
            "Glacial",
            "Hollow",
            "Soft",
            "Infinite",
            "Submerged",
            "Pale",
        ],
        nouns: [
            "Horizon",
            "Nebula",
            "Tide",
            "Snowfield",
            "Drone",
            "Aurora",
            "Cathedral",
            "Vapour",
            "Satellite",
            "Breath",
            "Mist",
            "Glow",
        ],
        places: [
            "Reykjavik",
            "Orbit",
            "the Deep",
            "Europa",
            "the Airport",
            "Dawn",
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_differ_within_a_genre_and_titles_within_an_artist() {
        for genre in &GENRES {
            let artists: HashSet<_> = (0..20_000).map(|i| artist(genre, i)).collect();
            assert_eq!(artists.len(), 20_000, "{}", genre.name);
            for salt in [0, 5, 1_000_003] {
                let titles: HashSet<_> = (0..TITLES_PER_ARTIST)
                    .map(|i| title(genre, i, salt))
                    .collect();
                assert_eq!(titles.len(), TITLES_PER_ARTIST, "{}", genre.name);
            }
        }
    }
}
