//! Rows of the tower: growth, late content, copies.

use super::*;

fn settings() -> TowerSettings {
    TowerSettings {
        dimensions: 8,
        hidden: 4,
        content: 3,
        id_dropout: 0.0,
        ..TowerSettings::default()
    }
}

fn tower() -> ItemTower {
    let parts = Parts::new(&settings(), None).unwrap();
    ItemTower::new(&settings(), parts, 1, Device::Cpu).unwrap()
}

fn values(tower: &ItemTower, row: i64) -> Vec<f32> {
    Vec::try_from(tower.vectors().unwrap().get(row)).unwrap()
}

#[test]
fn rows_survive_growth_and_content_comes_late() {
    let mut tower = tower();
    let known = NewRow {
        content: Some(vec![1.0, 0.0, 0.0]),
        ..NewRow::default()
    };
    let encoded = NewRow {
        content: None,
        residual: Some(vec![2.0, 4.0]),
        plays: 10,
    };
    tower.grow(&[known, NewRow::default(), encoded]).unwrap();
    let before: Vec<Vec<f32>> = (0..3).map(|row| values(&tower, row)).collect();
    assert!(before[0].iter().any(|&x| x != 0.0));
    assert_eq!(before[1], [0.0; 8]);
    assert!((before[2][7] - 4.0 * gate(10)).abs() < 1e-5);
    assert_eq!(before[2][5], 0.0);
    for _ in 0..5 {
        tower.grow(&vec![NewRow::default(); 40]).unwrap();
    }
    for (row, before) in (0i64..).zip(&before) {
        assert_eq!(&values(&tower, row), before);
    }
    tower.set_content(1, &[1.0, 0.0, 0.0]).unwrap();
    tower.refresh_content(&Tensor::from_slice(&[1i64])).unwrap();
    assert_eq!(values(&tower, 1), before[0]);
}

#[test]
fn trust_grows_with_plays() {
    assert_eq!(gate(0), 0.0);
    assert!(gate(1) > 0.4 && gate(1) < gate(2) && gate(u32::MAX) < 1.0);
}

#[test]
fn a_copy_learns_alone() {
    let mut tower = tower();
    let row = NewRow {
        residual: Some(vec![1.0; 8]),
        plays: 3,
        ..NewRow::default()
    };
    tower.grow(&[row]).unwrap();
    let before = values(&tower, 0);
    let mut copy = tower.copy().unwrap();
    let rows = Tensor::from_slice(&[0i64]);
    let gradient = Tensor::ones([1, 8], (Kind::Float, Device::Cpu));
    copy.learn_residuals(&rows, &gradient, 0.1).unwrap();
    copy.refresh(&rows).unwrap();
    assert_ne!(values(&copy, 0), before);
    assert_eq!(values(&tower, 0), before);
}
