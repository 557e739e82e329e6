//! Keys of the tests' authority and signer, as their primes: making such keys takes longer than all that is tested with them.
//! They are published here and vouch for nothing.

/// Hexadecimal.
pub(super) const PRIMES: [[&str; 2]; 2] = [
    [
        concat!(
            "e6145073686da703df423ae705fd60b80b544171abf310258f62f003be92e29cae7c7e45f6552b9508d86738ab47bd5d",
            "a6768daa1e4743137edb58bcc50dba7d83e17e77a4d7ad90b60edba3e516cba84374654902e90dd88ea7cb9fce9529c0",
            "c5f3e68db0de21f8bed6b70130f7a402792ba911ae7cc368f0f62863473f4d73",
        ),
        concat!(
            "b5e16c4aa9f7655daf0e20bda31ec2f53648e9853c00790e60bd8e8f74575a658e9b4c6e3ee060fae38237d88e96dfdf",
            "9d1916843f51bd590d49e834413ba5ff6a77e0b7853722517cd9859cc8257dccf34e75184b0e93c5dafddecaa3c9df90",
            "6aa0d7c1f7e9fd8bf9097d8f8fd54297e296a72059a24a58d800ec708ad60685",
        ),
    ],
    [
        concat!(
            "dbc0a9684e36bf3b8454b9edfe82df97e1f34572bb939d91222534d27dd56895e6a1491d51ed831800ae7804e982ebd8",
            "7db2e974d423eaa2068cdeaebb42a338e9886bd948844faecc00e747fb1583c13ae524cd8827cf2dfa12b19f2b1b2221",
            "ed87d04b861b9649cd11a5d3936b6e192585ea77ca9f57db5d76f4dea7b1b9c5",
        ),
        concat!(
            "ba83867db497c02a0e13b0d043f029b8147de96a32c1e5311dea383a11e2aab22ed7cce01c4466aa81843ebe0f64d839",
            "5f0d34f5a774cd860bc5618f6cf973fa7f12c0c83f2d5c31842fbb4977a7fa0f26671ec19a117280b8afcb6b5daab9dd",
            "c69fad191e7a750e38565a82113ce089361fe32ba4a304f6aa6f5c06d759bf0d",
        ),
    ],
];
