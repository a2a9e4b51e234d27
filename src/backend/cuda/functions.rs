//! Functions of libraries that are looked for at run time.

/// A struct of a library's functions, and how all of them are looked up. The types are those of the library's header.
macro_rules! functions {
    (
        $(#[$of_all:meta])* $visible:vis struct $name:ident;
        $($(#[$about:meta])* $field:ident = $symbol:literal ($($argument:ty),*) -> $returned:ty;)*
    ) => {
        $(#[$of_all])*
        #[derive(Debug, Clone, Copy)]
        $visible struct $name {
            $($(#[$about])* pub $field: unsafe extern "C" fn($($argument),*) -> $returned,)*
        }

        impl $name {
            /// Looks all of them up; the name of the first that is missing. The library must not be unloaded.
            fn of(library: &libloading::Library) -> std::result::Result<$name, &'static str> {
                // SAFETY: the types are those of the library's header; the symbols are looked up, not called.
                unsafe {
                    Ok($name {
                        $($field: *library
                            .get::<unsafe extern "C" fn($($argument),*) -> $returned>($symbol.as_bytes())
                            .map_err(|_| $symbol)?,)*
                    })
                }
            }
        }
    };
}
pub(super) use functions;
