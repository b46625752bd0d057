//! A growable array in shared pages: a clone costs a pointer per page, and a write copies at most the
//! one page it touches. This is what makes a snapshot cheap to publish and impossible to disturb.

use std::sync::Arc;

const PAGE: usize = 1024;

/// `u32`s by position; what was never set is `None`.
#[derive(Clone, Default)]
pub struct Pages {
    /// Values plus one, so that a fresh page of zeroes is a page of `None`s.
    pages: Vec<Option<Arc<[u32; PAGE]>>>,
}

impl Pages {
    /// The value at `position`.
    pub fn get(&self, position: u32) -> Option<u32> {
        let page = self.pages.get(position as usize / PAGE)?.as_ref()?;
        page[position as usize % PAGE].checked_sub(1)
    }

    /// Sets the value at `position`. `u32::MAX` cannot be told from `None` and reads as such.
    pub fn set(&mut self, position: u32, value: Option<u32>) {
        let at = position as usize / PAGE;
        if at >= self.pages.len() {
            if value.is_none() {
                return;
            }
            self.pages.resize(at + 1, None);
        }
        let page = self.pages[at].get_or_insert_with(|| Arc::new([0; PAGE]));
        Arc::make_mut(page)[position as usize % PAGE] = value.map_or(0, |v| v.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut pages = Pages::default();
        pages.set(5000, Some(0));
        let before = pages.clone();
        pages.set(5000, Some(7));
        pages.set(3, Some(1));
        assert_eq!((before.get(5000), before.get(3)), (Some(0), None));
        assert_eq!((pages.get(5000), pages.get(3)), (Some(7), Some(1)));
        pages.set(5000, None);
        pages.set(900_000, None);
        assert_eq!((pages.get(5000), pages.get(900_000)), (None, None));
    }
}
