//! Ratings as sequences, leave-one-out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, ensure};

/// What each user rated, oldest first; the last is asked for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sequences {
    /// In the order of the users' names.
    pub users: Vec<Vec<String>>,
}

/// One line of ratings.
struct Rating<'t> {
    user: &'t str,
    item: &'t str,
    /// Seconds; 0 where the order of the lines says when.
    at: f64,
}

impl Sequences {
    /// Reads ratings: `user item rating time` or, in order of time, `user item`, separated by tabs,
    /// spaces or `::`; a header is passed over. Equal times keep the order of the lines. Items and
    /// users with fewer than `least` ratings are left out, until none is left.
    pub fn read(text: &str, least: usize) -> anyhow::Result<Self> {
        let mut ratings = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if number == 1 && line.starts_with("user_id") {
                continue;
            }
            ratings.push(rating(line).with_context(|| format!("line {number}: {line}"))?);
        }
        ratings.sort_by(|a, b| a.at.total_cmp(&b.at));
        let ratings = dense(ratings, least);
        let mut users: BTreeMap<(usize, &str), Vec<String>> = BTreeMap::new();
        for rating in &ratings {
            // Numbers as numbers.
            let place = (rating.user.len(), rating.user);
            users.entry(place).or_default().push(rating.item.to_owned());
        }
        let users: Vec<Vec<String>> = users.into_values().filter(|one| one.len() > 2).collect();
        ensure!(!users.is_empty(), "no user with more than 2 ratings");
        Ok(Self { users })
    }

    /// Reads the file.
    pub fn open(path: &Path, least: usize) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::read(&text, least).with_context(|| path.display().to_string())
    }

    /// How many items there are.
    pub fn items(&self) -> usize {
        let all: HashSet<&String> = self.users.iter().flatten().collect();
        all.len()
    }

    /// How many ratings there are.
    pub fn ratings(&self) -> usize {
        self.users.iter().map(Vec::len).sum()
    }

    /// A sequence a line.
    pub fn lines(&self) -> String {
        self.users
            .iter()
            .map(|items| items.join(" ") + "\n")
            .collect()
    }

    /// Ranks of the last items, among those not in the sequence before, by how many rated each
    /// before their last; ties share the last rank.
    pub fn ranks_by_popularity(&self) -> Vec<usize> {
        let mut counts: HashMap<&String, usize> = HashMap::new();
        for items in &self.users {
            let Some((target, before)) = items.split_last() else {
                continue;
            };
            counts.entry(target).or_default();
            for item in before {
                *counts.entry(item).or_default() += 1;
            }
        }
        let rank = |items: &Vec<String>| {
            let (target, before) = items.split_last()?;
            let seen: HashSet<&String> = before.iter().collect();
            let own = counts.get(target)?;
            let ahead = counts.iter().filter(|(item, count)| {
                *count >= own && (*item == &target || !seen.contains(*item))
            });
            Some(ahead.count())
        };
        self.users.iter().filter_map(rank).collect()
    }
}

fn rating(line: &str) -> anyhow::Result<Rating<'_>> {
    let fields: Vec<&str> = match line.contains("::") {
        true => line.split("::").collect(),
        false => line.split_whitespace().collect(),
    };
    let (user, item, at) = match fields[..] {
        [user, item] => (user, item, 0.0),
        [user, item, _, at] => (user, item, at.parse().context("a time in seconds")?),
        _ => anyhow::bail!("neither `user item` nor `user item rating time`"),
    };
    Ok(Rating { user, item, at })
}

/// Those of items and users with at least `least` ratings each.
fn dense(mut ratings: Vec<Rating<'_>>, least: usize) -> Vec<Rating<'_>> {
    loop {
        let (mut users, mut items) = (HashMap::new(), HashMap::new());
        for rating in &ratings {
            *users.entry(rating.user).or_insert(0) += 1;
            *items.entry(rating.item).or_insert(0) += 1;
        }
        let before = ratings.len();
        let enough = |counts: &HashMap<&str, usize>, name| {
            counts.get(name).is_some_and(|count| *count >= least)
        };
        ratings.retain(|one| enough(&users, one.user) && enough(&items, one.item));
        if ratings.len() == before {
            return ratings;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_to_write_the_same_ratings() {
        let tabs = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n\
                    10\ta\t3\t5\n9\tb\t1\t7\n10\tc\t3\t5\n10\tb\t2\t4\n9\ta\t1\t6\n9\tc\t1\t9\n";
        let colons = "10::a::3::5\n9::b::1::7\n10::c::3::5\n10::b::2::4\n9::a::1::6\n9::c::1::9";
        let pairs = "9 a\n9 b\n9 c\n10 b\n10 a\n10 c\n";
        let expected = [["a", "b", "c"], ["b", "a", "c"]].map(|items| items.map(str::to_owned));
        for text in [tabs, colons, pairs] {
            let read = Sequences::read(text, 1).unwrap();
            assert_eq!(read.users, expected.clone().map(Vec::from));
            assert_eq!((read.items(), read.ratings()), (3, 6));
        }
        assert_eq!(Sequences::read(pairs, 1).unwrap().lines(), "a b c\nb a c\n");
        assert!(Sequences::read("1 2 3", 1).is_err());
        assert!(Sequences::read("1 2 3 soon", 1).is_err());
    }

    #[test]
    fn what_is_rare_is_left_out_until_nothing_is() {
        // "d" is rare; without it user 3 is.
        let text = "1 a\n1 b\n1 c\n2 a\n2 b\n2 c\n3 a\n3 b\n3 d\n";
        let read = Sequences::read(text, 2).unwrap();
        assert_eq!(read.lines(), "a b c\na b c\n");
        let read = Sequences::read(text, 1).unwrap();
        assert_eq!(read.users.len(), 3);
    }

    #[test]
    fn popularity_ranks_with_ties_against_it() {
        // Before the last: a 2, b 2, x 1; c is only ever asked for.
        let text = "1 a\n1 b\n1 c\n2 a\n2 x\n2 b\n3 b\n3 y\n3 a\n";
        let read = Sequences::read(text, 1).unwrap();
        // User 1: x, y and c are left and c is last. User 2: b ahead of y and c. User 3: a ahead.
        assert_eq!(read.ranks_by_popularity(), [3, 1, 1]);
    }
}
