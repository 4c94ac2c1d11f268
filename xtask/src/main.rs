//! The one door for developers: try, test, bench, image, cross.

fn main() {}
