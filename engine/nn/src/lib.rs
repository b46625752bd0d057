//! Tensors.

#[cfg(test)]
mod tests {
    #[test]
    fn libtorch_runs() {
        let t = tch::Tensor::from_slice(&[1f32, 2.0]).sum(tch::Kind::Float);
        assert_eq!(t.double_value(&[]), 3.0);
    }
}
